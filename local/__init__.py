"""The laptop runtime: embedded Postgres, the AWS emulator and the deploy onto it."""

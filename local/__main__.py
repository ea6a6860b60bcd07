"""Run the laptop runtime's commands: `python -m local <command>`."""

from local.cli import main

main()

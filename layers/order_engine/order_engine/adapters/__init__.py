"""The outside world behind the ports: AWS, Postgres, DynamoDB."""

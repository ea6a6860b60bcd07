"""The order stream in DynamoDB."""

"""The order stream in DynamoDB.

Here lives what knows the keys and attributes of the stream's one table; other tables belong to
whoever owns them.
"""

"""What is done to an order, through ports; knows no adapter."""

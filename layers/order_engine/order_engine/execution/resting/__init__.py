"""Orders at rest.

Here lives what watches over them, prices them and decides how fast they are released.
"""

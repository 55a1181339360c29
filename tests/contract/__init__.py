"""What every vendor of the table, every door and every dialect must keep to."""

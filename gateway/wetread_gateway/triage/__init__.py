"""What becomes of an instance that got Success: work, or a place where it can be seen."""

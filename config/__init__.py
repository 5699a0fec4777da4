"""What a person may set: typed settings, how they are loaded, and how a process says it failed."""

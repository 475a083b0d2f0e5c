"""Read an archive of studies at leisure: listed once, shared out without talk, resumed after any stop."""

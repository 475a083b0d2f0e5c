"""Read films on a Wetread server."""

"""Stand-ins for parts of edged, for tests alone."""

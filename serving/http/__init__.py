"""HTTP itself: its protocol, operations and their description, bodies, errors."""

"""Who may call, on whose behalf, and how much: keys, tenants, limits."""

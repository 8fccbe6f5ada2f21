"""What runs, batches and comparisons look like in a notebook; nothing here is loaded elsewhere."""

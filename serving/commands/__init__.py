"""What each command of `crew` does; `serving.cli` has their arguments."""

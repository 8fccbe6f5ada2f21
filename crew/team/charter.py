"""What every agent of the team is told first, so that their prompts begin with the same bytes."""

CHARTER = "You are part of a research crew. Answer with JSON on one line.\n\n"

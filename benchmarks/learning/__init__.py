"""Does it help? GRPO with TRL on a real, small policy, with prompts picked by each strategy; see README.md here."""

"""The fine-tuning job: a frozen training set and a checkpoint in, a checkpoint out."""

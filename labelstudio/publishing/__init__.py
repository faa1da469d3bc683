"""Predictions into Label Studio: tasks, the ledger of what was sent, and taking things back."""

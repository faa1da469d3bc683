"""From corrections to a frozen training set, and from scores to a decision. No models here."""

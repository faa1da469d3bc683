"""Everything that speaks to Label Studio. No torch, no Ray."""

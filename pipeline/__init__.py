"""What happens to data: sources, records, storage, and the two spines that join them. No torch."""

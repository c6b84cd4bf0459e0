"""What a sample costs, stage by stage."""

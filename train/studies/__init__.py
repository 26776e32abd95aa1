"""Studies: many trainings that answer one question together, such as an ablation or a sweep."""

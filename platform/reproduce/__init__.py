"""`vizecg reproduce`: the paper's comparison and ablation, trained, evaluated and put beside what it reports."""

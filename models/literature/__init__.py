"""Systems that VizECGNet is compared with, one file each: a configuration, a model, its sizes."""

"""cutplan.torch: gradients, operators, modules, and models of Hugging Face."""

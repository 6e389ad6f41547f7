"""The Hugging Face Hub. Only the modules of this folder talk to it, and huggingface_hub is imported on their first call."""

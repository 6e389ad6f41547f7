"""The Hugging Face Hub client; only this folder imports huggingface_hub, on the first call."""

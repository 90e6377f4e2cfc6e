"""Model families: builders of supernets and conversions of Hugging Face models."""

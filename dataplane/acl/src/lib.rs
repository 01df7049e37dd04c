//! Evaluates a policy image: address to identity to verdict.

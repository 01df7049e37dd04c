//! Policy: model, validate, compile, explain.

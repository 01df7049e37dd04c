//! The control process: policy, names, recent flows, export, API.

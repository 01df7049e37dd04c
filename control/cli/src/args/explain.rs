//! `ringfence explain`

use clap::Args;

/// `ringfence explain`
#[derive(Args, Debug)]
#[command(after_long_help = "\
SRC starts the flow, DST answers. Both are workload names or addresses. Exits 0 if the flow
passes, 1 if it is denied or rejected. With --flow the flow is one that was seen: by its newest
record, the policy that judged it and the policy in force; the exit code is what happened to it.

Examples:
  ringfence explain web-1 db-1 tcp/5432
  ringfence explain 10.0.9.9 db-1 tcp/22
  ringfence explain web-1 db-1 icmp/echo
  ringfence explain web-1 db-1 tcp/5432 --at 2026-01-31T03:00:00Z     as the policy was that night
  ringfence explain web-1 db-1 tcp/5432 --at 2h                       two hours ago
  ringfence explain --flow 0100000000000001                           flow_id of `flows --json`
  ringfence explain --flow 0100000000000001 --since 7d                look in history too")]
pub struct ExplainArgs {
    /// Initiator: workload or address
    #[arg(required_unless_present = "flow", conflicts_with = "flow")]
    pub src: Option<String>,
    /// Responder: workload or address
    #[arg(required_unless_present = "flow")]
    pub dst: Option<String>,
    /// Protocol and port of the responder: tcp/443, udp/53, icmp/echo, proto/47; or a service
    #[arg(value_name = "PROTO/PORT", required_unless_present = "flow")]
    pub service: Option<String>,
    /// By the policy, names and segments of this time, or so long ago: 2026-01-31T12:00:00Z, 2h
    #[arg(long, value_name = "TIME", conflicts_with = "flow")]
    pub at: Option<String>,
    /// A flow that was seen, by its flow_id
    #[arg(long, value_name = "FLOW_ID")]
    pub flow: Option<String>,
    /// Look for the flow in history too, from this time on, or so long back: 7d
    #[arg(long, value_name = "TIME", requires = "flow")]
    pub since: Option<String>,
}

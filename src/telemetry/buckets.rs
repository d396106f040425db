//! The buckets of all histograms, in seconds, each with its reason. Each bucket is a series of its own in every
//! histogram: a label's value costs as many.

/// Requests: from an answer of a server on the same machine to `requests.timeout_max` (10 minutes), with
/// `requests.timeout` (one minute) as a bound of its own.
pub(super) const REQUEST: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0];

/// What the conventions of OpenTelemetry advise for operations of MCP.
pub(super) const OPERATION: &[f64] =
    &[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Steps of Redis and NATS: a tenth of a millisecond is a script on the same machine; what takes seconds runs
/// into a timeout.
pub(super) const STEP: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Events on their way: no clock here is finer than a millisecond; one whose message got lost comes a second or
/// two late, and one that waited for a store that was away longer.
pub(super) const DELIVERY: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Sessions: a script's seconds, an editor's working day, and those that nobody ends.
pub(super) const SESSION: &[f64] =
    &[1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0, 259_200.0, 604_800.0];

/// What an issuer is asked.
pub(super) const ISSUER: &[f64] =
    &[0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

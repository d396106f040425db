//! What Kubernetes does with the pods of the rendered chart, on processes of this machine: the kubelet's probes and
//! ends of pods, the order of a Deployment's rolling update, and a Service with its endpoints. Times and paths are
//! those that the chart renders.

mod deployment;
mod kubelet;
mod rendered;
mod service;

pub(crate) use deployment::Deployment;
pub(crate) use rendered::Rendered;
pub(crate) use service::Service;

//! Holdfast: a gateway for the Model Context Protocol that scales sideways.

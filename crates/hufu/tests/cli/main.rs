//! The whole product through its binary: what a new user, an operator and a script see.

mod absent;
mod config;
mod demo;
mod kill;
mod load;
mod merchants;
mod rotate;
mod sandbox;
mod secure;
mod serving;
mod support;
mod tls;

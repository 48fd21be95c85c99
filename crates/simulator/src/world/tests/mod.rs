//! The world judged, and its judges.

mod broken;
mod customers;
mod judges;
mod profiles;
mod seeds;

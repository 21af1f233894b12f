//! The registry: what is done to stored objects, driven by each kind's entry in the table, schema and strategy.
//!
//! Nothing here knows who may do it; that was decided before. Nothing here knows HTTP.

mod binding;
mod budget;
mod certificates;
mod collection;
mod commit;
mod connect;
mod convert;
mod create;
mod delete;
mod encode;
mod eviction;
mod finalize;
mod operation;
mod patch;
mod proxy;
mod resize;
mod reviews;
mod scale;
mod services;
mod stamp;
mod status;
mod time;
mod token;
mod update;
mod view;

pub(crate) use self::{
    certificates::signing_request,
    commit::store_error,
    operation::metadata_list,
    reviews::{review, user_info},
    scale::scale,
    time::rfc3339,
    view::View,
};
pub use self::{commit::fence_key, encode::MAX_OBJECT_BYTES, operation::Operation, services::Ranges, update::Part};

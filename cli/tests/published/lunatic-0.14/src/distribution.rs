//! Tests distribution when there is only one node.

use lunatic::distributed;

pub fn there_is_one_node() {
    println!("node {}, of {:?}", distributed::node_id(), distributed::nodes());
    println!("module {}", unsafe { lunatic::host::api::distributed::module_id() });
}

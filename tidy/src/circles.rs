//! Finds the strongly connected components of a graph: sets of nodes that can all reach each other.

use std::collections::BTreeSet;

/// Returns all sets of two or more nodes that can all reach each other, largest first.
///
/// `edges[node]` lists the nodes that `node` leads to.
///
/// ```
/// let edges = vec![vec![1], vec![2], vec![0], vec![0]];
/// assert_eq!(lunatic_tidy::circles(&edges), [[0, 1, 2]]);
/// ```
pub fn circles(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    // A crate has a few hundred files, so it is cheap to search from each of them.
    let reached: Vec<BTreeSet<usize>> = (0..edges.len()).map(|node| reach(edges, node)).collect();
    let circle = |node: usize| -> Vec<usize> {
        let mut others = reached[node].iter().copied();
        others
            .by_ref()
            .filter(|&other| reached[other].contains(&node))
            .collect()
    };
    let mut circles: Vec<Vec<usize>> = (0..edges.len())
        .map(circle)
        .filter(|circle| circle.len() > 1)
        .collect();
    circles.sort_by_key(|circle| (usize::MAX - circle.len(), circle[0]));
    circles.dedup();
    circles
}

/// Returns the nodes that can be reached from a node.
fn reach(edges: &[Vec<usize>], from: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(node) = open.pop() {
        open.extend(edges[node].iter().filter(|next| reached.insert(**next)));
    }
    reached
}

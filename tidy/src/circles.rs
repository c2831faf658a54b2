//! Strongly connected components of a graph: nodes that reach each other.

/// Returns the sets of two or more nodes that reach each other, the largest first.
///
/// `edges[node]` lists the nodes that `node` leads to.
///
/// ```
/// let edges = vec![vec![1], vec![2], vec![0], vec![0]];
/// assert_eq!(lunatic_tidy::circles(&edges), [[0, 1, 2]]);
/// ```
pub fn circles(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut search = Search {
        edges,
        order: vec![None; edges.len()],
        lowest: vec![0; edges.len()],
        is_open: vec![false; edges.len()],
        open: Vec::new(),
        seen: 0,
        found: Vec::new(),
    };
    for node in 0..edges.len() {
        if search.order[node].is_none() {
            search.visit(node);
        }
    }
    search
        .found
        .sort_by_key(|circle| (usize::MAX - circle.len(), circle[0]));
    search.found
}

/// Tarjan's algorithm.
struct Search<'a> {
    edges: &'a [Vec<usize>],
    order: Vec<Option<usize>>,
    lowest: Vec<usize>,
    is_open: Vec<bool>,
    open: Vec<usize>,
    seen: usize,
    found: Vec<Vec<usize>>,
}

impl Search<'_> {
    fn visit(&mut self, node: usize) {
        let order = self.seen;
        self.order[node] = Some(order);
        self.lowest[node] = order;
        self.seen += 1;
        self.open.push(node);
        self.is_open[node] = true;
        for &next in &self.edges[node] {
            match self.order[next] {
                None => {
                    self.visit(next);
                    self.lowest[node] = self.lowest[node].min(self.lowest[next]);
                }
                Some(order) if self.is_open[next] => {
                    self.lowest[node] = self.lowest[node].min(order);
                }
                Some(_) => {}
            }
        }
        if self.lowest[node] < order {
            return;
        }
        let start = self
            .open
            .iter()
            .position(|&open| open == node)
            .expect("a node is open until its component is complete");
        let mut circle = self.open.split_off(start);
        for &node in &circle {
            self.is_open[node] = false;
        }
        circle.sort_unstable();
        if circle.len() > 1 {
            self.found.push(circle);
        }
    }
}

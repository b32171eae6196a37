//! A fault while the walk unwinds: its place is known where it happens, its path is put together on the way up.

use super::super::Fault;

/// What the parts of the transcoder return. Boxed: the good way carries nothing but a pointer.
pub(super) type Outcome<T> = Result<T, Box<Broken>>;

#[derive(Debug)]
pub(super) struct Broken {
    offset: usize,
    what: String,
    /// From the inside out.
    path: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Field(&'static str),
    Index(usize),
}

impl Broken {
    pub fn new(offset: usize, what: impl Into<String>) -> Box<Self> {
        Box::new(Self { offset, what: what.into(), path: Vec::new() })
    }

    pub fn within_field(mut self: Box<Self>, name: &'static str) -> Box<Self> {
        self.path.push(Step::Field(name));
        self
    }

    pub fn within_element(mut self: Box<Self>, index: usize) -> Box<Self> {
        self.path.push(Step::Index(index));
        self
    }

    /// `resourceSpans[0].scopeSpans[0].spans[3].traceId: 32 hex digits expected, found 30`.
    pub fn fault(self) -> Fault {
        let mut what = String::new();
        for step in self.path.iter().rev() {
            match step {
                Step::Field(name) if what.is_empty() => what.push_str(name),
                Step::Field(name) => what.extend([".", name]),
                Step::Index(index) => what.push_str(&format!("[{index}]")),
            }
        }
        if !what.is_empty() {
            what.push_str(": ");
        }
        what.push_str(&self.what);
        Fault { offset: self.offset as u64, what }
    }
}

//! The exposition format: heads, samples, escapes.

use std::fmt::Write;

use prost_types::Timestamp;

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// Metrics of one name: what they mean, and how they are read off a `T`.
pub(super) struct Family<T: ?Sized> {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    /// A sentence, without line breaks and backslashes: those would have to be escaped.
    pub(super) help: &'static str,
    read: fn(&T, &mut Samples<'_>),
}

/// What only grows.
pub(super) const fn counter<T: ?Sized>(
    name: &'static str,
    help: &'static str,
    read: fn(&T, &mut Samples<'_>),
) -> Family<T> {
    Family { name, kind: "counter", help, read }
}

/// What also falls.
pub(super) const fn gauge<T: ?Sized>(
    name: &'static str,
    help: &'static str,
    read: fn(&T, &mut Samples<'_>),
) -> Family<T> {
    Family { name, kind: "gauge", help, read }
}

impl<T: ?Sized> Family<T> {
    /// Once, before the first sample.
    pub(super) fn write_head(&self, text: &mut String) {
        let Self { name, kind, help, .. } = self;
        put(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// The samples of `subject`, each with `labels`.
    pub(super) fn write(&self, text: &mut String, labels: &[(&str, &str)], subject: &T) {
        (self.read)(subject, &mut Samples { text, name: self.name, labels });
    }
}

/// Where one subject's samples of one family go.
pub(super) struct Samples<'a> {
    text: &'a mut String,
    name: &'static str,
    labels: &'a [(&'a str, &'a str)],
}

impl Samples<'_> {
    /// A number.
    pub(super) fn put(&mut self, value: impl Into<Value>) {
        self.put_with(&[], value);
    }

    /// A number, if it is known.
    pub(super) fn put_known(&mut self, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(value);
        }
    }

    /// A number with more labels. Their values must be from a small set, because each makes a time series.
    pub(super) fn put_with(&mut self, more: &[(&str, &str)], value: impl Into<Value>) {
        self.text.push_str(self.name);
        let mut separator = '{';
        for (name, value) in self.labels.iter().chain(more) {
            self.text.push(separator);
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(self.text, value);
            self.text.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.text.push('}');
        }
        match value.into() {
            Value::Count(count) => put(self.text, format_args!(" {count}\n")),
            Value::Real(real) => put(self.text, format_args!(" {real}\n")),
            Value::Nanos(nanos) => {
                let sign = if nanos < 0 { "-" } else { "" };
                let (seconds, rest) = (nanos.abs() / NANOS_PER_SECOND, nanos.abs() % NANOS_PER_SECOND);
                put(self.text, format_args!(" {sign}{seconds}.{rest:09}\n"));
            }
        }
    }
}

/// A sample's value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    /// Of things.
    Count(u64),
    /// Finite.
    Real(f64),
    /// A time or a span, shown in seconds with nothing rounded off.
    Nanos(i128),
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<u32> for Value {
    fn from(count: u32) -> Self {
        Self::Count(count.into())
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Self {
        Self::Count(u64::try_from(count).unwrap_or(u64::MAX))
    }
}

impl From<bool> for Value {
    fn from(is_so: bool) -> Self {
        Self::Count(is_so.into())
    }
}

impl From<f64> for Value {
    fn from(real: f64) -> Self {
        Self::Real(real)
    }
}

impl From<std::time::Duration> for Value {
    fn from(span: std::time::Duration) -> Self {
        Self::Nanos(i128::try_from(span.as_nanos()).unwrap_or(i128::MAX))
    }
}

impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        Self::Nanos(i128::from(time.seconds) * NANOS_PER_SECOND + i128::from(time.nanos))
    }
}

fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            _ => text.push(c),
        }
    }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Memory does not say no.
    let _ = text.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sample(labels: &[(&str, &str)], value: impl Into<Value>) -> String {
        let mut text = String::new();
        Samples { text: &mut text, name: "m", labels: &[] }.put_with(labels, value);
        text
    }

    #[test]
    fn values_are_exact() {
        assert_eq!(sample(&[], u64::MAX), "m 18446744073709551615\n");
        assert_eq!(sample(&[], true), "m 1\n");
        assert_eq!(sample(&[], 29.97), "m 29.97\n");
        assert_eq!(sample(&[], Duration::from_nanos(1)), "m 0.000000001\n");
        let before_1970 = Timestamp { seconds: -2, nanos: 500_000_000 };
        assert_eq!(sample(&[], before_1970), "m -1.500000000\n");
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(sample(&[("a", "x"), ("b", "")], 0_u64), "m{a=\"x\",b=\"\"} 0\n");
        assert_eq!(sample(&[("a", "q\"s\\l\nn é")], 0_u64), "m{a=\"q\\\"s\\\\l\\nn é\"} 0\n");
    }

    #[test]
    fn a_head_names_help_and_type() {
        let mut text = String::new();
        let family = counter::<u64>("m_total", "All of it.", |count, samples| samples.put(*count));
        family.write_head(&mut text);
        family.write(&mut text, &[("a", "b")], &3);
        assert_eq!(text, "# HELP m_total All of it.\n# TYPE m_total counter\nm_total{a=\"b\"} 3\n");
    }
}

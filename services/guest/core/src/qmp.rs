//! The messages of QEMU's control socket: one JSON object in each line.

use serde_json::{Map, Value, json};

/// What QEMU says.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The first line: who it is.
    Greeting {
        /// QEMU's version, such as `7.2.22`.
        version: String,
        /// Whether commands may be executed out of band.
        oob: bool,
    },
    /// The answer to the command with this id.
    Reply {
        /// The id.
        id: u64,
        /// What it returned, or the refusal.
        result: Result<Value, Refusal>,
    },
    /// A refusal of something that had no id: it was no command.
    Unasked(Refusal),
    /// An event.
    Event(Event),
}

/// A command that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{description}")]
pub struct Refusal {
    /// QEMU's class, such as `GenericError`.
    pub class: String,
    /// QEMU's words.
    pub description: String,
}

/// An event. Names and data of those that nobody here knows are passed on.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name, such as `MIGRATION`.
    pub name: String,
    /// Its data; null if there are none.
    pub data: Value,
    /// Seconds since 1970, by QEMU's clock.
    pub seconds: i64,
    /// Microseconds of them.
    pub microseconds: i32,
}

/// A line that is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("QEMU sent what is no message of QMP")]
pub struct MessageError;

impl Message {
    /// Reads a line.
    ///
    /// # Errors
    /// [`MessageError`].
    pub fn parse(line: &[u8]) -> Result<Self, MessageError> {
        let Ok(Value::Object(mut object)) = serde_json::from_slice(line) else { return Err(MessageError) };
        if let Some(greeting) = object.get("QMP") {
            return Ok(greet(greeting));
        }
        if let Some(Value::String(name)) = object.remove("event") {
            return Ok(Self::Event(event(name, &mut object)));
        }
        let result = match (object.remove("return"), object.remove("error")) {
            (Some(value), None) => Ok(value),
            (None, Some(error)) => Err(refusal(&error)),
            _ => return Err(MessageError),
        };
        match (object.get("id").and_then(Value::as_u64), result) {
            (Some(id), result) => Ok(Self::Reply { id, result }),
            (None, Err(refusal)) => Ok(Self::Unasked(refusal)),
            (None, Ok(_)) => Err(MessageError),
        }
    }
}

fn greet(greeting: &Value) -> Message {
    let part = |name: &str| greeting["version"]["qemu"][name].as_u64().unwrap_or(0);
    let version = format!("{}.{}.{}", part("major"), part("minor"), part("micro"));
    let oob = greeting["capabilities"].as_array().is_some_and(|all| all.iter().any(|one| one == "oob"));
    Message::Greeting { version, oob }
}

fn event(name: String, object: &mut Map<String, Value>) -> Event {
    let time = object.remove("timestamp").unwrap_or_default();
    let microseconds = time["microseconds"].as_i64().and_then(|part| part.try_into().ok()).unwrap_or(0);
    let data = object.remove("data").unwrap_or_default();
    Event { name, data, seconds: time["seconds"].as_i64().unwrap_or(0), microseconds }
}

fn refusal(error: &Value) -> Refusal {
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    Refusal { class: text("class"), description: text("desc") }
}

/// A command's line, with its end.
#[must_use]
pub fn command(id: u64, name: &str, arguments: &Value, oob: bool) -> Vec<u8> {
    let execute = if oob { "exec-oob" } else { "execute" };
    let mut command = json!({ execute: name, "id": id });
    if !arguments.is_null() {
        command["arguments"] = arguments.clone();
    }
    let mut line = command.to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(line: &str) -> Message {
        Message::parse(line.as_bytes()).unwrap()
    }

    #[test]
    fn each_kind_of_message_is_read() {
        let greeting = parse(
            r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}"#,
        );
        assert_eq!(greeting, Message::Greeting { version: "7.2.22".into(), oob: true });
        let reply = parse(r#"{"return": {"running": true}, "id": 7}"#);
        assert_eq!(reply, Message::Reply { id: 7, result: Ok(json!({"running": true})) });
        let refused = Refusal { class: "GenericError".into(), description: "no".into() };
        let error = parse(r#"{"id": 8, "error": {"class": "GenericError", "desc": "no"}}"#);
        assert_eq!(error, Message::Reply { id: 8, result: Err(refused.clone()) });
        assert_eq!(parse(r#"{"error": {"class": "GenericError", "desc": "no"}}"#), Message::Unasked(refused));
        let event = parse(
            r#"{"event": "NEW_ONE", "data": {"x": 1}, "timestamp": {"seconds": 5, "microseconds": 6}}"#,
        );
        let expected = Event { name: "NEW_ONE".into(), data: json!({"x": 1}), seconds: 5, microseconds: 6 };
        assert_eq!(event, Message::Event(expected));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bad in [
            "",
            "{}",
            "[]",
            "{\"return\": {}}",
            "{\"return\": 1, \"error\": {}, \"id\": 1}",
            "{\"event\": 7}",
        ] {
            assert_eq!(Message::parse(bad.as_bytes()), Err(MessageError), "{bad}");
        }
    }

    #[test]
    fn a_command_is_one_line() {
        let line = String::from_utf8(command(3, "yank", &json!({"a": "x\ny"}), true)).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.contains("\"exec-oob\":\"yank\"") && line.contains("\"id\":3"), "{line}");
        assert!(!String::from_utf8(command(4, "cont", &Value::Null, false)).unwrap().contains("arguments"));
    }

    proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(line in r#"[\{\}":a-zQMP0-9,\[\]\\]{0,60}"#) {
            let _ = Message::parse(line.as_bytes());
        }
    }
}

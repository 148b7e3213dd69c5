//! A channel against an agent that the test plays itself.

use super::*;
use tokio::io::{AsyncReadExt, DuplexStream};

/// A channel, and the agent's end of it.
fn channel() -> (Control, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (reader, writer) = tokio::io::split(ours);
    let duplex = Duplex { writer: Box::new(writer), reader: Box::new(reader), keep: Box::new(()) };
    (Control::new("n1", duplex), theirs)
}

async fn receive(agent: &mut DuplexStream) -> (u64, Vec<u8>) {
    let len = agent.read_u32_le().await.unwrap() as usize;
    let json_len = agent.read_u32_le().await.unwrap() as usize;
    let mut body = vec![0; len - 4];
    agent.read_exact(&mut body).await.unwrap();
    let payload = body.split_off(json_len);
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert!(json.get("request").is_some());
    (json["id"].as_u64().unwrap(), payload)
}

async fn answer(agent: &mut DuplexStream, json: &str, payload: &[u8]) {
    agent.write_u32_le((4 + json.len() + payload.len()) as u32).await.unwrap();
    agent.write_u32_le(json.len() as u32).await.unwrap();
    agent.write_all(json.as_bytes()).await.unwrap();
    agent.write_all(payload).await.unwrap();
}

#[tokio::test]
async fn answers_find_their_requests_in_any_order() {
    let (control, mut agent) = channel();
    let calls = async {
        let first = control.call_with(Request::Ledger, b"abc".to_vec(), ANSWER_TIME_MAX);
        let second = control.call(Request::Doctor);
        tokio::join!(first, second)
    };
    let answers = async {
        let (a, b) = (receive(&mut agent).await, receive(&mut agent).await);
        for (id, payload) in [b, a] {
            let with_payload = payload == b"abc";
            let json = if with_payload {
                format!(r#"{{"id":{id},"reply":"done"}}"#)
            } else {
                format!(r#"{{"id":{id},"error":{{"message":"no"}}}}"#)
            };
            answer(&mut agent, &json, if with_payload { b"xyz" } else { b"" }).await;
        }
    };
    let ((first, second), ()) = tokio::join!(calls, answers);
    assert_eq!(first.unwrap(), (Reply::Done, b"xyz".to_vec()));
    assert_eq!(second.unwrap_err().to_string(), "n1: no");
}

#[tokio::test]
async fn a_stream_that_ends_or_lies_is_lost() {
    let (control, mut agent) = channel();
    let (result, ()) = tokio::join!(control.call(Request::Ledger), async {
        receive(&mut agent).await;
        agent.write_all(&[0xff; 16]).await.unwrap();
    });
    assert!(matches!(result, Err(ControlError::Lost { .. })), "{result:?}");
    assert!(matches!(control.call(Request::Ledger).await, Err(ControlError::Lost { .. })));
}

/// A machine whose agents say that they belong to these boots, one after the other; each serves until it is asked for
/// the doctor, and then dies.
struct Machine {
    boots: Mutex<std::vec::IntoIter<&'static str>>,
    disconnected: std::sync::atomic::AtomicU32,
    greetings: Arc<Mutex<Vec<bool>>>,
    boot_time_max: Duration,
}

#[async_trait::async_trait]
impl Transport for Machine {
    async fn put(&self, _: &Path, _: &str) -> anyhow::Result<()> {
        Ok(())
    }

    async fn open(&self, _: &[String]) -> anyhow::Result<Duplex> {
        let boot = self.boots.lock().unwrap().next().ok_or_else(|| anyhow::anyhow!("no route to host"))?;
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let (reader, writer) = tokio::io::split(ours);
        let greetings = self.greetings.clone();
        tokio::spawn(async move {
            while let Ok(len) = theirs.read_u32_le().await {
                let json_len = theirs.read_u32_le().await.unwrap() as usize;
                let mut body = vec![0; len as usize - 4];
                theirs.read_exact(&mut body).await.unwrap();
                let question: serde_json::Value = serde_json::from_slice(&body[..json_len]).unwrap();
                let id = question["id"].as_u64().unwrap();
                if question["request"] == "doctor" {
                    return;
                }
                let reply = match question["request"].get("hello") {
                    Some(hello) => {
                        greetings.lock().unwrap().push(hello["again"] == true);
                        format!(
                            r#"{{"hello":{{"version":{VERSION},"pid":1,"hostname":"n1","boot_id":"{boot}","uid":0,"root":"/","arch":"","addresses":[]}}}}"#
                        )
                    }
                    None => r#"{"ledger":[]}"#.to_owned(),
                };
                answer(&mut theirs, &format!(r#"{{"id":{id},"reply":{reply}}}"#), b"").await;
            }
        });
        Ok(Duplex { writer: Box::new(writer), reader: Box::new(reader), keep: Box::new(()) })
    }

    async fn disconnect(&self) {
        self.disconnected.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    fn boot_time_max(&self) -> Duration {
        self.boot_time_max
    }
}

const LONG: Duration = Duration::from_secs(600);

async fn machine(boots: Vec<&'static str>, boot_time_max: Duration) -> (Control, Arc<Machine>) {
    let boots = Mutex::new(boots.into_iter());
    let (disconnected, greetings) = Default::default();
    let machine = Arc::new(Machine { boots, disconnected, greetings, boot_time_max });
    let lease = Duration::from_secs(3600);
    let (control, _) = Control::connect("n1", machine.clone(), Vec::new(), lease).await.unwrap();
    (control, machine)
}

#[tokio::test]
async fn a_lost_channel_is_opened_again_and_the_agent_is_known_anew() {
    let (control, machine) = machine(vec!["a", "a", "b", "b"], LONG).await;
    // Its agent dies of that, the next one too, and the third.
    assert!(matches!(control.call(Request::Doctor).await, Err(ControlError::Lost { .. })));
    assert_eq!((control.hello().unwrap().boot_id.as_str(), control.last_boot()), ("a", None));
    assert!(matches!(control.call(Request::Doctor).await, Err(ControlError::Lost { .. })));
    assert_eq!(control.call(Request::Ledger).await.unwrap(), Reply::Ledger(Vec::new()));
    let boot = control.last_boot().unwrap();
    assert_eq!((boot.from.as_str(), boot.to.as_str()), ("a", "b"));
    assert_eq!(control.hello().unwrap().boot_id, "b");
    assert_eq!(*machine.greetings.lock().unwrap(), [false, true, true, true], "only the first session is a new one");
}

#[tokio::test]
async fn a_machine_that_goes_down_is_waited_for_until_it_has_booted() {
    let (control, machine) = machine(vec!["a", "a", "a", "b"], LONG).await;
    control.goes_down("for the test").await;
    // Twice the old boot still answers.
    assert_eq!(control.call(Request::Ledger).await.unwrap(), Reply::Ledger(Vec::new()));
    assert_eq!(control.hello().unwrap().boot_id, "b");
    assert_eq!(control.last_boot().unwrap().from, "a");
    assert_eq!(machine.disconnected.load(std::sync::atomic::Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_machine_that_never_comes_back_is_lost() {
    let (control, _) = machine(vec!["a"], Duration::from_millis(100)).await;
    control.goes_down("for good").await;
    let error = control.call(Request::Ledger).await.unwrap_err();
    assert!(error.to_string().contains("no route to host"), "{error}");
}

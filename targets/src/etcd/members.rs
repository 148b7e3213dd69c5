//! Changes of membership, by etcd's cluster and maintenance APIs.

use super::{CLIENT_PORT, Member, PEER_PORT, leader, status};
use crate::http::Http;
use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::{Value as Json, json};
use squall_harness::{Cluster, Node};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long one node may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);

/// A member as etcd lists it.
pub(super) struct Listed {
    /// Its number, as text: the gateway writes 64-bit numbers so.
    id: String,
    /// The node's name; `None` for a member that was added and has not been started.
    pub(super) name: Option<String>,
    /// Where its peers reach it.
    peer_urls: Vec<String>,
}

async fn send(address: IpAddr, path: &str, body: &Json) -> anyhow::Result<Json> {
    let http = Http::new(&SocketAddr::new(address, CLIENT_PORT).to_string())?;
    match tokio::time::timeout(ANSWER_TIME_MAX, http.send(Method::POST, path, Some(body))).await {
        Ok(Ok((200, answer))) => Ok(answer),
        Ok(Ok((code, answer))) => bail!("{path} answered {code}: {}", answer["error"].as_str().unwrap_or("no reason")),
        Ok(Err(why)) => bail!("{path}: {}", why.word()),
        Err(_) => bail!("{path}: no answer in time"),
    }
}

/// Whoever leads, as the nodes see it.
async fn leader_of(cluster: &Cluster) -> anyhow::Result<&Node> {
    let states = futures::future::join_all(cluster.nodes.iter().map(|node| status(node.address))).await;
    leader(&states).map(|at| &*cluster.nodes[at]).context("nobody leads")
}

/// All members, by the leader's word.
pub(super) async fn list(cluster: &Cluster) -> anyhow::Result<Vec<Listed>> {
    let answer = send(leader_of(cluster).await?.address, "/v3/cluster/member/list", &json!({})).await?;
    let texts = |list: &Json| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(|text| Some(text.as_str()?.to_owned())).collect()
    };
    let listed = |member: &Json| {
        Some(Listed {
            id: member["ID"].as_str()?.to_owned(),
            name: member["name"].as_str().filter(|name| !name.is_empty()).map(str::to_owned),
            peer_urls: texts(&member["peerURLs"]),
        })
    };
    Ok(answer["members"].as_array().context("no list of members")?.iter().filter_map(listed).collect())
}

/// The member on `node`; by its URL, for it may have no name yet.
async fn find(cluster: &Cluster, node: &Node) -> anyhow::Result<Option<Listed>> {
    let url = Member::of(node).url(PEER_PORT);
    Ok(list(cluster).await?.into_iter().find(|member| member.peer_urls.contains(&url)))
}

/// Takes the member on `node` out; one that is none is fine.
pub(super) async fn remove(cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
    let Some(member) = find(cluster, node).await? else { return Ok(()) };
    // Asked of another node: the one that leaves may not answer any more.
    let other = match leader_of(cluster).await? {
        leader if leader.name == node.name => cluster.nodes.iter().find(|other| other.name != node.name),
        leader => cluster.node(leader.name.as_str()),
    };
    let other = other.context("the only member cannot be removed")?;
    send(other.address, "/v3/cluster/member/remove", &json!({ "ID": member.id })).await.map(|_| ())
}

/// Makes `node` a member; whether it was none, or has not been started since, so that it must begin anew.
pub(super) async fn add(cluster: &Cluster, node: &Node) -> anyhow::Result<bool> {
    if let Some(member) = find(cluster, node).await? {
        return Ok(member.name.is_none());
    }
    let body = json!({ "peerURLs": [Member::of(node).url(PEER_PORT)] });
    send(leader_of(cluster).await?.address, "/v3/cluster/member/add", &body).await?;
    Ok(true)
}

/// Has the leader hand over to `to`.
pub(super) async fn move_leader(cluster: &Cluster, to: &Node) -> anyhow::Result<()> {
    let member = find(cluster, to).await?.with_context(|| format!("{} is no member", to.name))?;
    let body = json!({ "targetID": member.id });
    send(leader_of(cluster).await?.address, "/v3/maintenance/transfer-leadership", &body).await.map(|_| ())
}

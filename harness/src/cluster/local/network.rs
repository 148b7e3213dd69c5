//! Links and addresses of the local cluster, by netlink: no external program.
//!
//! Node i (from 0) sits on its own /24 behind its own veth pair: the router end is `10.77.{i+1}.1`, the node `10.77.{i+1}.2`.

use anyhow::Context;
use futures::TryStreamExt;
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use std::net::Ipv4Addr;

/// Prefix length of every link.
const PREFIX: u8 = 24;

/// The interface's name inside a node.
const NODE_INTERFACE: &str = "eth0";

/// The router's end of node `index`'s link.
pub(super) fn router_address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, (index + 1) as u8, 1)
}

/// Node `index`'s data address.
pub(super) fn node_address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, (index + 1) as u8, 2)
}

/// A netlink socket in the network namespace of this process. Must be called inside a tokio runtime.
fn netlink() -> anyhow::Result<Handle> {
    let (connection, handle, _) = rtnetlink::new_connection().context("cannot open a netlink socket")?;
    tokio::spawn(connection);
    Ok(handle)
}

async fn index_of(handle: &Handle, name: &str) -> anyhow::Result<u32> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    let link = links.try_next().await.with_context(|| format!("cannot look up the interface {name}"))?;
    Ok(link.with_context(|| format!("there is no interface {name}"))?.header.index)
}

async fn raise(handle: &Handle, index: u32) -> Result<(), rtnetlink::Error> {
    handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await
}

/// Brings up the loopback interface of this network namespace.
pub(super) async fn loopback_up() -> anyhow::Result<()> {
    let handle = netlink()?;
    let index = index_of(&handle, "lo").await?;
    raise(&handle, index).await.context("cannot bring up the loopback interface")
}

/// Makes the link to node `index`, whose namespace is that of process `pid`; the node's end is left to
/// [`configure_node`].
pub(super) async fn link_node(index: usize, pid: u32) -> anyhow::Result<()> {
    let handle = netlink()?;
    let (ours, theirs) = (format!("node{}", index + 1), format!("peer{}", index + 1));
    let what = || format!("cannot make the link to node {}", index + 1);
    handle.link().add(LinkVeth::new(&ours, &theirs).build()).execute().await.with_context(what)?;
    let peer = index_of(&handle, &theirs).await?;
    let peer = LinkUnspec::new_with_index(peer).name(NODE_INTERFACE).setns_by_pid(pid).build();
    handle.link().set(peer).execute().await.with_context(what)?;
    let link = index_of(&handle, &ours).await?;
    handle.address().add(link, router_address(index).into(), PREFIX).execute().await.with_context(what)?;
    raise(&handle, link).await.with_context(what)
}

/// Configures node `index`'s end, from within its network namespace.
pub(super) async fn configure_node(index: usize) -> anyhow::Result<()> {
    let handle = netlink()?;
    let link = index_of(&handle, NODE_INTERFACE).await?;
    let address = node_address(index);
    let what = || format!("cannot give {NODE_INTERFACE} the address {address}");
    handle.address().add(link, address.into(), PREFIX).execute().await.with_context(what)?;
    raise(&handle, link).await.with_context(what)?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(router_address(index)).build();
    handle.route().add(route).execute().await.context("cannot set the default route")
}

'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const $ = id => document.getElementById(id);
const el = (tag, cls, text) => { const e = document.createElement(tag); if (cls) e.className = cls; if (text !== undefined) e.textContent = text; return e; };
const colour = name => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim();
const seconds = ns => (ns / 1e9).toFixed(3) + ' s';
const millis = ns => ns < 1e7 ? (ns / 1e6).toFixed(1) + ' ms' : Math.round(ns / 1e6) + ' ms';
const GUTTER = 92, RULER = 24, NEVER = -1;
const outcomes = { o: 'ok', f: 'failed', u: 'unknown outcome' };

let palette, key, ops, lanes, allLanes, onlyTheirs = false, mode = 'real', dim = true, view, scroll = 0, hover = -1, selected = -1, path = [], step = 0, matches = new Set();

function colours() {
  palette = {};
  for (const c of ['back', 'panel', 'line', 'lane', 'text', 'soft', 'read', 'write', 'unknown', 'fail', 'ink', 'culprit', 'kept', 'path', 'fault']) palette[c] = colour(c);
}

// ---- what is shown: one key

function load(index) {
  key = data.keys[index];
  const c = key.ops, n = c.call.length;
  ops = Array.from({ length: n }, (_, i) => ({
    i, process: c.process[i], node: c.node[i] < 0 ? '' : data.nodes[c.node[i]], call: c.call[i], ret: c.ret[i],
    callNs: c.call_ns[i], retNs: c.ret_ns[i], outcome: c.outcome[i], reads: c.reads[i] === '1', text: c.text[i], kept: false, role: '',
  }));
  const e = key.explanation;
  if (e) e.ops.forEach((op, at) => { ops[op].role = at === e.culprit ? 'culprit' : e.optional[at] ? 'optional' : 'kept'; });
  layLanes();
  selected = hover = -1; path = []; matches = new Set(); scroll = 0;
  everything();
  if (e) jump(); else if (n > 400) zoomTo(0, middle(400));
  showPath(lastLeaf(), -1);
  panel(); draw();
}

// A process that ended with an unknown outcome never acts again: who comes after it takes its row.
function layLanes() {
  const byProcess = new Map(), free = [], rows = [];
  for (const op of [...ops].sort((a, b) => a.call - b.call)) {
    let lane = byProcess.get(op.process);
    if (lane === undefined) {
      const at = free.findIndex(f => f.node === op.node && f.until < op.call);
      lane = at >= 0 ? free.splice(at, 1)[0].lane : rows.push({ node: op.node, process: op.process, ops: [] }) - 1;
      byProcess.set(op.process, lane);
    }
    rows[lane].ops.push(op);
    op.lane = lane;
    if (op.outcome === 'u') free.push({ node: op.node, lane, until: op.ret === NEVER ? Infinity : op.ret });
  }
  const order = rows.map((_, i) => i).sort((a, b) => {
    const x = rows[a], y = rows[b];
    return x.node.localeCompare(y.node, undefined, { numeric: true }) || x.process - y.process;
  });
  allLanes = order.map(i => rows[i]);
  onlyTheirs = allLanes.length > 40 && !!key.explanation;
  chooseLanes();
}

// All rows, or those of the explanation alone.
function chooseLanes() {
  lanes = onlyTheirs && key.explanation ? allLanes.filter(lane => lane.ops.some(op => op.role)) : allLanes;
  for (const op of ops) op.lane = -1;
  lanes.forEach((lane, at) => lane.ops.forEach(op => { op.lane = at; }));
  $('rows').setAttribute('aria-pressed', onlyTheirs);
  $('rows').disabled = !key.explanation;
}

const begin = op => mode === 'real' ? op.callNs : op.call;
const end = op => op.ret === NEVER ? Infinity : mode === 'real' ? op.retNs : op.ret;
const isOpenEnded = op => op.outcome === 'u';
const whole = () => mode === 'real' ? [ops.length ? Math.min(...[ops[0].callNs]) : 0, data.end_ns] : [ops.length ? ops[0].call : 0, data.events];
const middle = at => begin(ops[Math.min(at, ops.length - 1)]);

function everything() {
  let from = Infinity, to = -Infinity;
  for (const op of ops) { from = Math.min(from, begin(op)); to = Math.max(to, end(op) === Infinity ? begin(op) : end(op)); }
  if (!(from <= to)) [from, to] = whole();
  const margin = Math.max((to - from) * 0.02, 1);
  view = { from: from - margin, to: to + margin };
  view.all = { ...view };
}

function zoomTo(from, to) {
  const all = view.all, span = Math.max(to - from, mode === 'real' ? 1e3 : 4);
  const wide = all.to - all.from;
  if (span >= wide) { view.from = all.from; view.to = all.to; return; }
  from = Math.min(Math.max(from, all.from), all.to - span);
  view.from = from; view.to = from + span;
}

function jump() {
  const e = key.explanation;
  if (!e) return;
  const shown = e.ops.map(i => ops[i]);
  const culprit = shown[e.culprit] || shown[shown.length - 1];
  const ends = shown.map(op => isOpenEnded(op) ? begin(op) : end(op)).filter(x => x < Infinity);
  let from = Math.min(...shown.map(begin)), to = Math.max(...ends, ...shown.map(begin));
  // Far apart: what is close to the culprit, or nothing could be read.
  const near = ops.filter(op => begin(op) >= from && begin(op) <= to).length;
  if (near > 300) { const at = ops.indexOf(culprit); from = middle(Math.max(0, at - 100)); to = middle(at + 20); }
  const pad = Math.max((to - from) * 0.25, mode === 'real' ? 1e4 : 3);
  zoomTo(from - pad, to + pad);
  const { h } = rowHeight();
  const size = $('stage').clientHeight - RULER;
  scroll = Math.max(0, Math.min(culprit.lane * h - size / 2, lanes.length * h - size));
}

// ---- orders

function lastLeaf() { return key.tree && key.tree.leaves.length ? key.tree.leaves[0] : -1; }

function pathTo(node) {
  const tree = key.tree, out = [];
  for (let at = node; at >= 0; at = tree.parent[at]) out.push({ op: ops[tree.op[at]], state: tree.texts[tree.state[at]] });
  return out.reverse();
}

// The moments at which the operations of an order may have taken effect: as early as possible.
function points(order) {
  let last = -Infinity;
  for (const at of order) { last = Math.max(last, at.op.call + 0.5); at.event = last; last += 1e-3; }
}

function showPath(node, op) {
  path = node >= 0 ? pathTo(node) : [];
  points(path);
  step = path.length - 1;
  if (op >= 0) { const at = path.findIndex(p => p.op.i === op); if (at >= 0) step = at; }
}

function select(op, keepView) {
  selected = op;
  if (op >= 0 && key.tree) {
    // The longest order that has it; otherwise the longest there is.
    const tree = key.tree;
    const nodes = []; for (let i = 0; i < tree.op.length; i++) if (tree.op[i] === op) nodes.push(i);
    const has = new Set(nodes);
    const leaf = tree.leaves.find(leaf => { for (let at = leaf; at >= 0; at = tree.parent[at]) if (has.has(at)) return true; return false; });
    showPath(leaf !== undefined ? leaf : lastLeaf(), op);
  }
  if (op >= 0 && ops[op].lane < 0) { onlyTheirs = false; chooseLanes(); }
  if (op >= 0 && !keepView) {
    const o = ops[op];
    if (begin(o) < view.from || begin(o) > view.to) { const span = view.to - view.from; zoomTo(begin(o) - span / 2, begin(o) + span / 2); }
    const { h } = rowHeight(), size = $('stage').clientHeight - RULER;
    if (o.lane * h < scroll || (o.lane + 1) * h > scroll + size) scroll = Math.max(0, o.lane * h - size / 2);
  }
  panel(); draw(); remember();
}

// ---- the panel

function opLine(op, cls, note) {
  const e = el('div', 'op ' + cls);
  e.tabIndex = 0;
  e.append(el('time', '', seconds(op.callNs)), el('span', 'who', (op.node || 'p' + op.process)));
  const what = el('span', 'what', op.text);
  if (note) what.append(el('div', 'note', note));
  e.append(what);
  e.onclick = () => select(op.i);
  e.onkeydown = event => { if (event.key === 'Enter') select(op.i); };
  if (op.i === selected) e.classList.add('selected');
  return e;
}

const took = op => op.ret === NEVER ? 'never answered' : isOpenEnded(op) ? 'unknown, given up after ' + millis(op.retNs - op.callNs) : 'after ' + millis(op.retNs - op.callNs);

function panel() {
  const box = $('explanation'); box.textContent = '';
  const e = key.explanation;
  if (e) {
    box.append(el('h2', '', e.ops.length === 1 ? 'This operation cannot be placed' : 'No order of these ' + e.ops.length + ' operations exists'));
    if (e.start) box.append(el('p', '', e.start[0].toUpperCase() + e.start.slice(1) + ', and'));
    e.ops.forEach((op, at) => {
      const role = at === e.culprit ? 'culprit' : 'kept';
      const blocked = e.blocked.find(b => b[0] === at);
      const note = at === e.culprit ? e.why : blocked ? 'blocked: ' + blocked[1] : e.optional[at] ? 'whether or not it took effect' : '';
      const line = opLine(ops[op], role, note);
      if (e.texts[at]) line.querySelector('.what').firstChild.textContent = e.texts[at];
      box.append(line);
    });
    if (e.others) box.append(el('p', 'note', e.others.toLocaleString('en') + ' other operations on this key do not matter to it.'));
    const culprit = e.blocked.find(b => b[0] === e.culprit);
    if (culprit && culprit[1] !== e.why) { box.append(el('h2', '', 'Where it stops'), el('p', '', culprit[1])); }
    if (e.states.length) {
      box.append(el('h2', '', 'Last possible states'));
      e.states.forEach(state => box.append(el('p', 'state', state)));
      if (e.states_more) box.append(el('p', 'note', 'and ' + e.states_more + ' more'));
    }
  } else if (key.reason) {
    box.append(el('h2', '', key.verdict), el('p', '', key.reason));
  }
  const sel = $('selected'); sel.textContent = '';
  if (selected >= 0) {
    const op = ops[selected];
    sel.append(el('h2', '', 'Selected'), el('p', 'state', op.text), el('p', 'note',
      'process ' + op.process + (op.node ? ' on ' + op.node : '') + ', ' + outcomes[op.outcome] + ', ' + seconds(op.callNs) + ', ' + took(op) + ', events ' + op.call + ' to ' + (op.ret === NEVER ? 'the end' : op.ret)));
  }
  orderPanel();
}

function orderPanel() {
  const box = $('order'); box.textContent = '';
  if (!path.length) { if (key.tree_note) box.append(el('h2', '', 'Orders'), el('p', '', key.tree_note)); return; }
  const at = selected >= 0 && path.some(p => p.op.i === selected) ? 'An order that reaches the selected operation' : key.tree.complete ? 'An order of all operations' : 'The longest order found';
  box.append(el('h2', '', at));
  if (selected >= 0 && !path.some(p => p.op.i === selected)) box.append(el('p', '', 'No order found reaches the selected operation.'));
  const steps = el('div'); steps.id = 'steps';
  const back = el('button', '', '◀'), next = el('button', '', '▶'), range = el('input');
  range.type = 'range'; range.min = 0; range.max = path.length - 1; range.value = step; range.setAttribute('aria-label', 'step of the order');
  const go = to => { step = Math.max(0, Math.min(path.length - 1, to)); follow(); orderPanel(); draw(); remember(); };
  back.onclick = () => go(step - 1); next.onclick = () => go(step + 1); range.oninput = () => { step = +range.value; follow(); fill(); draw(); };
  range.onchange = remember;
  steps.append(back, range, next);
  const list = el('div');
  const fill = () => {
    list.textContent = '';
    for (let i = Math.max(0, step - 3); i < Math.min(path.length, step + 4); i++) {
      const p = path[i], line = el('div', 'op' + (i === step ? ' now' : ''));
      line.append(el('time', '', String(i + 1)));
      const what = el('span', 'what', p.op.text);
      what.append(el('div', 'note state', p.state));
      line.append(what);
      line.onclick = () => go(i);
      list.append(line);
    }
    if (step === path.length - 1 && !key.tree.complete) list.append(el('p', 'note', 'Here it ends: what is open now is possible in no order found.'));
  };
  fill();
  box.append(steps, el('p', 'note', 'step ' + (step + 1) + ' of ' + path.length + (key.tree.leaves.length > 1 ? ', one of ' + key.tree.leaves.length + ' orders' : '')), list);
  if (key.tree_note) box.append(el('p', 'note', key.tree_note));
  if (key.tree.leaves.length > 1) {
    const others = el('p');
    key.tree.leaves.forEach((leaf, i) => { const b = el('button', '', String(i + 1)); b.title = 'another order'; b.onclick = () => { showPath(leaf, -1); orderPanel(); draw(); }; others.append(b, ' '); });
    box.append(others);
  }
}

function follow() {
  const op = path[step] && path[step].op;
  if (!op) return;
  const x = pointAt(step), span = view.to - view.from;
  if (x < view.from || x > view.to) zoomTo(x - span / 2, x + span / 2);
  if (op.lane < 0) return;
  const { h } = rowHeight(), size = $('stage').clientHeight - RULER;
  if (op.lane * h < scroll || (op.lane + 1) * h > scroll + size) scroll = Math.max(0, op.lane * h - size / 2);
}

// ---- drawing

const stage = $('timeline'), overview = $('overview');
function fitCanvas(canvas) {
  const r = canvas.getBoundingClientRect(), d = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(r.width * d) || canvas.height !== Math.round(r.height * d)) { canvas.width = Math.round(r.width * d); canvas.height = Math.round(r.height * d); }
  const g = canvas.getContext('2d'); g.setTransform(d, 0, 0, d, 0, 0);
  return [g, r.width, r.height];
}

function rowHeight() {
  const size = $('stage').clientHeight - RULER, h = Math.max(11, Math.min(40, size / Math.max(1, lanes.length)));
  return { h, size };
}
const xOf = (t, w) => GUTTER + (t - view.from) / (view.to - view.from) * (w - GUTTER);
const tOf = (x, w) => view.from + (x - GUTTER) / (w - GUTTER) * (view.to - view.from);

// Moments of an order are told in events; in real time they lie between the ends of the events around them.
function pointAt(i) {
  const p = path[i];
  if (mode === 'events') return p.event;
  const earlier = i ? pointAt.last(i) : p.op.callNs;
  return Math.max(p.op.callNs, earlier);
}
pointAt.last = i => { let t = -Infinity; for (let j = Math.max(0, i - 64); j < i; j++) t = Math.max(t, path[j].op.callNs); return t; };

function fill(op) {
  if (op.role === 'culprit') return palette.culprit;
  if (op.outcome === 'f') return palette.fail;
  if (isOpenEnded(op)) return palette.unknown;
  return op.reads ? palette.read : palette.write;
}

let queued = false;
function draw() { if (!queued) { queued = true; requestAnimationFrame(() => { queued = false; paint(); paintOverview(); }); } }

function paint() {
  const [g, w, hgt] = fitCanvas(stage), { h } = rowHeight();
  scroll = Math.max(0, Math.min(scroll, lanes.length * h - (hgt - RULER)));
  g.fillStyle = palette.back; g.fillRect(0, 0, w, hgt);
  const first = Math.max(0, Math.floor(scroll / h)), last = Math.min(lanes.length, Math.ceil((scroll + hgt - RULER) / h));
  const bottom = Math.min(hgt, RULER + lanes.length * h - scroll);
  for (let l = first; l < last; l++) if (l % 2) { g.fillStyle = palette.lane; g.fillRect(GUTTER, RULER + l * h - scroll, w - GUTTER, h); }
  g.save(); g.beginPath(); g.rect(GUTTER, 0, w - GUTTER, hgt); g.clip();
  faults(g, w, bottom);
  ruler(g, w, bottom);
  g.beginPath(); g.rect(GUTTER, RULER, w - GUTTER, hgt); g.clip();
  const bar = Math.max(5, h - (h > 18 ? 8 : 3));
  g.font = (h > 22 ? 12 : 10) + 'px system-ui, "DejaVu Sans", sans-serif'; g.textBaseline = 'middle';
  const onPath = dim && path.length && selected >= 0 ? new Set(path.map(p => p.op.i)) : null;
  for (let l = first; l < last; l++) {
    const y = RULER + l * h - scroll + (h - bar) / 2;
    for (const op of lanes[l].ops) {
      if (begin(op) > view.to) break;
      const stop = end(op), x0 = xOf(begin(op), w), x1 = stop === Infinity ? x0 + 10 : xOf(stop, w);
      if (isOpenEnded(op)) { g.globalAlpha = faded(op, onPath) ? .12 : .45; g.fillStyle = palette.unknown; g.fillRect(x0, y + bar / 2 - 1, w - x0, 2); g.globalAlpha = 1; }
      if (x1 < GUTTER) continue;
      const width = Math.max(2, x1 - x0);
      g.globalAlpha = faded(op, onPath) ? .38 : 1;
      g.fillStyle = fill(op);
      if (width > 6) { g.beginPath(); g.roundRect(x0, y, width, bar, Math.min(4, width / 3)); g.fill(); } else g.fillRect(x0, y, width, bar);
      if (op.role && op.role !== 'culprit') { g.globalAlpha = 1; g.lineWidth = 2; g.strokeStyle = palette.kept; g.strokeRect(x0 - 1, y - 1, width + 2, bar + 2); }
      if (matches.has(op.i) || op.i === hover || op.i === selected) { g.globalAlpha = 1; g.lineWidth = op.i === selected ? 2.5 : 1.5; g.strokeStyle = palette.text; g.strokeRect(x0 - 2, y - 2, width + 4, bar + 4); }
      if (bar >= 10) {
        const from = Math.max(x0, GUTTER) + 4, room = x1 - from - 3;
        if (room > 14) { g.fillStyle = op.role === 'culprit' || !op.reads && !isOpenEnded(op) && op.outcome === 'o' ? '#fff' : palette.ink; clipText(g, op.text, from, y + bar / 2 + .5, room); }
      }
      g.globalAlpha = 1;
    }
  }
  drawPath(g, w, h);
  labelExplained(g, w, h, bar);
  g.restore();
  gutter(g, hgt, h, first, last);
}

const faded = (op, onPath) => dim && !(op.role || op.i === selected || matches.has(op.i)) && (onPath ? !onPath.has(op.i) : key.explanation ? true : false);

function clipText(g, text, x, y, room) {
  if (text.length > 200) text = text.slice(0, 200);
  if (g.measureText(text).width > room) {
    let n = Math.min(text.length, Math.floor(room / 5));
    while (n > 0 && g.measureText(text.slice(0, n) + '…').width > room) n--;
    if (n < 2) return;
    text = text.slice(0, n) + '…';
  }
  g.fillText(text, x, y);
}

// The operations that matter are named beside their bars where the bars are too narrow.
function labelExplained(g, w, h, bar) {
  const e = key.explanation;
  if (!e) return;
  g.font = '11px system-ui, "DejaVu Sans", sans-serif';
  const taken = [];
  e.ops.forEach((i, at) => {
    const op = ops[i], x0 = xOf(begin(op), w), x1 = end(op) === Infinity ? x0 + 10 : xOf(end(op), w);
    const name = e.texts[at] || op.text, text = name.length > 44 ? name.slice(0, 42) + '…' : name;
    const width = g.measureText(text).width;
    if (op.lane < 0 || x1 < GUTTER || x0 > w || x1 - x0 > width + 16) return;
    let y = RULER + op.lane * h - scroll + h / 2, x = Math.max(x1, x0 + 2) + 5;
    if (x + width > w) x = x0 - width - 5;
    while (taken.some(t => Math.abs(t.y - y) < 14 && t.x < x + width && x < t.x + t.width)) y += 14;
    taken.push({ x, y, width });
    g.globalAlpha = .92; g.fillStyle = palette.panel; g.fillRect(x - 3, y - 8, width + 6, 16); g.globalAlpha = 1;
    g.fillStyle = op.role === 'culprit' ? palette.culprit : palette.text; g.fillText(text, x, y);
  });
}

function faults(g, w, bottom) {
  const rows = [];
  for (const f of data.faults) {
    const from = mode === 'real' ? f.from_ns : f.from, to = mode === 'real' ? (f.to_ns ?? data.end_ns) : (f.to ?? data.events);
    if (to < view.from || from > view.to) continue;
    const x0 = Math.max(GUTTER, xOf(from, w)), x1 = Math.min(w, xOf(to, w));
    g.fillStyle = palette.fault; g.globalAlpha = .09; g.fillRect(x0, RULER, Math.max(2, x1 - x0), bottom - RULER);
    g.globalAlpha = .8; g.fillRect(x0, RULER - 3, Math.max(2, x1 - x0), 3); g.globalAlpha = 1;
    rows.push([x0, x1, f.what]);
  }
  g.font = '11px system-ui, "DejaVu Sans", sans-serif'; g.textBaseline = 'middle'; g.fillStyle = palette.fault;
  let free = GUTTER;
  for (const [x0, x1, what] of rows) { const x = Math.max(x0 + 3, free); if (x1 - x > 24) { clipText(g, what, x, Math.min(bottom + 10, g.canvas.clientHeight - 8), x1 - x - 4); free = x + Math.min(x1 - x, g.measureText(what).width + 10); } }
}

function ruler(g, w, bottom) {
  const span = view.to - view.from, rough = span / Math.max(2, (w - GUTTER) / 110), unit = 10 ** Math.floor(Math.log10(rough));
  const by = [1, 2, 5, 10].map(n => n * unit).find(n => n >= rough), tick = mode === 'events' ? Math.max(1, Math.round(by)) : by;
  const digits = Math.max(0, Math.min(9, 9 - Math.floor(Math.log10(tick))));
  g.strokeStyle = palette.line; g.fillStyle = palette.soft; g.lineWidth = 1;
  g.font = '11px system-ui, "DejaVu Sans", sans-serif'; g.textBaseline = 'middle';
  for (let t = Math.ceil(view.from / tick) * tick; t <= view.to; t += tick) {
    const x = Math.round(xOf(t, w)) + .5;
    g.beginPath(); g.moveTo(x, RULER - 5); g.lineTo(x, bottom); g.stroke();
    g.fillText(mode === 'real' ? (t / 1e9).toFixed(digits) + ' s' : 'event ' + Math.round(t), x + 3, RULER / 2 - 2);
  }
}

function gutter(g, hgt, h, first, last) {
  g.fillStyle = palette.panel; g.fillRect(0, 0, GUTTER, hgt);
  g.strokeStyle = palette.line; g.beginPath(); g.moveTo(GUTTER + .5, 0); g.lineTo(GUTTER + .5, hgt); g.moveTo(0, RULER + .5); g.lineTo(GUTTER, RULER + .5); g.stroke();
  g.save(); g.beginPath(); g.rect(0, RULER, GUTTER, hgt); g.clip();
  g.font = (h > 15 ? 11 : 9) + 'px system-ui, "DejaVu Sans", sans-serif'; g.textBaseline = 'middle';
  let node = null;
  for (let l = first; l < last; l++) {
    const lane = lanes[l], y = RULER + l * h - scroll + h / 2;
    if (lane.node !== node) {
      if (node !== null) { g.beginPath(); g.moveTo(0, y - h / 2 + .5); g.lineTo(GUTTER, y - h / 2 + .5); g.stroke(); }
      node = lane.node; g.fillStyle = palette.text; g.fillText(node.slice(0, 8), 8, y);
    }
    g.fillStyle = palette.soft; g.textAlign = 'right'; g.fillText('p' + lane.process, GUTTER - 8, y); g.textAlign = 'left';
  }
  g.restore();
}

function drawPath(g, w, h) {
  if (!path.length) return;
  const spots = [];
  let last = -Infinity;
  for (let i = Math.max(0, step - 400); i <= step; i++) {
    const op = path[i].op;
    last = Math.max(last, mode === 'real' ? op.callNs : path[i].event);
    const x = xOf(last, w) + 2;
    if (op.lane >= 0 && x >= GUTTER - 60 && x <= w + 60) spots.push([x, RULER + op.lane * h - scroll + h / 2, i]);
  }
  // Where steps stand too close to be told apart, only the last few are drawn.
  const room = spots.length ? (spots[spots.length - 1][0] - spots[0][0]) / spots.length : 0;
  const shown = room < 9 ? spots.slice(-14) : spots;
  g.strokeStyle = palette.path; g.lineWidth = 1.5;
  for (let i = 1; i < shown.length; i++) {
    g.globalAlpha = .25 + .5 * i / shown.length;
    g.beginPath(); g.moveTo(shown[i - 1][0], shown[i - 1][1]); g.lineTo(shown[i][0], shown[i][1]); g.stroke();
  }
  g.globalAlpha = 1;
  for (const [x, y, i] of shown) {
    g.beginPath(); g.arc(x, y, i === step ? 5 : 2.6, 0, 7); g.fillStyle = palette.path; g.fill();
    if (i === step) { g.lineWidth = 2; g.strokeStyle = palette.panel; g.stroke(); }
  }
}

function paintOverview() {
  const [g, w, hgt] = fitCanvas(overview), all = view.all, span = all.to - all.from;
  const x = t => GUTTER + (t - all.from) / span * (w - GUTTER);
  g.fillStyle = palette.panel; g.fillRect(0, 0, w, hgt);
  for (const f of data.faults) {
    const from = mode === 'real' ? f.from_ns : f.from, to = mode === 'real' ? (f.to_ns ?? data.end_ns) : (f.to ?? data.events);
    g.globalAlpha = .16; g.fillStyle = palette.fault; g.fillRect(Math.max(GUTTER, x(from)), 0, Math.max(2, x(to) - Math.max(GUTTER, x(from))), hgt); g.globalAlpha = 1;
  }
  const bins = new Float64Array(Math.max(1, Math.ceil((w - GUTTER) / 2)));
  for (const op of ops) { const at = Math.floor((x(begin(op)) - GUTTER) / 2); if (at >= 0 && at < bins.length) bins[at]++; }
  const most = Math.max(1, ...bins);
  g.fillStyle = palette.read;
  bins.forEach((n, i) => { if (n) { const bar = Math.max(2, n / most * (hgt - 14)); g.fillRect(GUTTER + i * 2, hgt - bar, 2, bar); } });
  for (const op of ops) if (op.role || matches.has(op.i)) { g.fillStyle = op.role === 'culprit' ? palette.culprit : op.role ? palette.kept : palette.text; g.fillRect(x(begin(op)) - 1, 2, op.role === 'culprit' ? 4 : 2, hgt - 2); }
  const a = x(view.from), b = Math.max(x(view.to), x(view.from) + 4);
  g.fillStyle = palette.text; g.globalAlpha = .07; g.fillRect(GUTTER, 0, a - GUTTER, hgt); g.fillRect(b, 0, w - b, hgt); g.globalAlpha = 1;
  g.strokeStyle = palette.write; g.lineWidth = 1.5; g.strokeRect(a, 1, b - a, hgt - 2);
  g.fillStyle = palette.soft; g.font = '11px system-ui, "DejaVu Sans", sans-serif'; g.textBaseline = 'middle';
  g.fillText(ops.length.toLocaleString('en') + ' ops', 8, hgt / 2 - 7); g.fillText(lanes.length + (lanes.length < allLanes.length ? ' of ' + allLanes.length : '') + ' rows', 8, hgt / 2 + 8);
}

// ---- hands

function opAt(x, y) {
  const { h } = rowHeight(), w = stage.clientWidth, l = Math.floor((y - RULER + scroll) / h);
  if (x < GUTTER || y < RULER || !lanes[l]) return -1;
  let found = -1, near = 5;
  for (const op of lanes[l].ops) {
    const x0 = xOf(begin(op), w), x1 = end(op) === Infinity ? x0 + 10 : Math.max(xOf(end(op), w), x0 + 2);
    const d = x < x0 ? x0 - x : x > x1 ? x - x1 : 0;
    if (d < near || d === 0) { near = d; found = op.i; }
  }
  return found;
}

let drag = null;
stage.onpointerdown = e => { drag = { x: e.clientX, y: e.clientY, from: view.from, to: view.to, scroll, moved: false }; stage.setPointerCapture(e.pointerId); };
stage.onpointermove = e => {
  const r = stage.getBoundingClientRect();
  if (drag) {
    const dx = e.clientX - drag.x, dy = e.clientY - drag.y;
    if (Math.abs(dx) + Math.abs(dy) > 4) { drag.moved = true; stage.classList.add('drag'); }
    if (drag.moved) { const per = (drag.to - drag.from) / (r.width - GUTTER); zoomTo(drag.from - dx * per, drag.to - dx * per); scroll = drag.scroll - dy; $('tip').style.display = 'none'; draw(); }
    return;
  }
  const at = opAt(e.clientX - r.left, e.clientY - r.top);
  if (at !== hover) { hover = at; draw(); }
  tip(at, e.clientX - r.left, e.clientY - r.top, r);
};
stage.onpointerup = e => {
  const was = drag; drag = null; stage.classList.remove('drag');
  if (was && !was.moved) { const r = stage.getBoundingClientRect(); select(opAt(e.clientX - r.left, e.clientY - r.top), true); } else remember();
};
stage.onpointerleave = () => { hover = -1; $('tip').style.display = 'none'; draw(); };
stage.addEventListener('wheel', e => {
  e.preventDefault();
  const r = stage.getBoundingClientRect();
  if (e.shiftKey || e.clientX - r.left < GUTTER) scroll += e.deltaY || e.deltaX;
  else if (Math.abs(e.deltaX) > Math.abs(e.deltaY)) { const by = e.deltaX / (r.width - GUTTER) * (view.to - view.from); zoomTo(view.from + by, view.to + by); }
  else zoom(Math.exp(e.deltaY * 0.0016), tOf(e.clientX - r.left, r.width));
  draw(); remember();
}, { passive: false });

function zoom(by, around = (view.from + view.to) / 2) { zoomTo(around - (around - view.from) * by, around + (view.to - around) * by); }

function tip(at, x, y, r) {
  const t = $('tip');
  if (at < 0) { t.style.display = 'none'; return; }
  const op = ops[at]; t.textContent = '';
  t.append(el('b', '', op.text), el('span', '', 'process ' + op.process + (op.node ? ' on ' + op.node : '') + ' at ' + seconds(op.callNs) + ', ' + outcomes[op.outcome] + ' ' + took(op)));
  t.style.display = 'block';
  t.style.left = Math.max(4, Math.min(x + 14, r.width - t.offsetWidth - 8)) + 'px';
  t.style.top = Math.max(4, y + 16 + t.offsetHeight > r.height ? y - t.offsetHeight - 10 : y + 16) + 'px';
}

let move = false;
const slide = e => { const r = overview.getBoundingClientRect(), all = view.all, span = view.to - view.from, t = all.from + (e.clientX - r.left - GUTTER) / (r.width - GUTTER) * (all.to - all.from); zoomTo(t - span / 2, t + span / 2); draw(); };
overview.onpointerdown = e => { move = true; overview.setPointerCapture(e.pointerId); slide(e); };
overview.onpointermove = e => { if (move) slide(e); };
overview.onpointerup = () => { move = false; remember(); };

function setMode(to) {
  if (to === mode) return;
  // What was in the middle stays there.
  const seen = ops.filter(op => begin(op) >= view.from && begin(op) <= view.to);
  mode = to;
  $('real').setAttribute('aria-pressed', mode === 'real'); $('events').setAttribute('aria-pressed', mode === 'events');
  everything();
  if (seen.length && seen.length < ops.length) { const a = begin(seen[0]), b = begin(seen[seen.length - 1]), pad = Math.max((b - a) * .1, mode === 'real' ? 1e4 : 3); zoomTo(a - pad, b + pad); }
  draw(); remember();
}

function search(text) {
  matches = new Set();
  const word = text.trim().toLowerCase();
  if (word) for (const op of ops) if (op.text.toLowerCase().includes(word) || ('p' + op.process) === word) matches.add(op.i);
  $('found').textContent = word ? matches.size + ' found' : '';
  draw();
}

$('real').onclick = () => setMode('real'); $('events').onclick = () => setMode('events');
$('in').onclick = () => { zoom(.5); draw(); remember(); }; $('out').onclick = () => { zoom(2); draw(); remember(); };
$('fit').onclick = () => { everything(); draw(); remember(); };
$('culprit').onclick = () => { jump(); draw(); remember(); };
$('rows').onclick = () => { onlyTheirs = !onlyTheirs; chooseLanes(); scroll = 0; draw(); };
$('dim').onclick = () => { dim = !dim; $('dim').setAttribute('aria-pressed', dim); draw(); };
$('search').oninput = e => search(e.target.value);
let turn = 0;
$('search').onkeydown = e => { if (e.key === 'Enter' && matches.size) { const all = [...matches]; select(all[turn++ % all.length]); } if (e.key === 'Escape') { e.target.blur(); } };
document.onkeydown = e => {
  if (e.target.tagName === 'INPUT' || e.target.tagName === 'SELECT' || e.ctrlKey || e.metaKey || e.altKey) return;
  const span = view.to - view.from, next = d => { if (path.length) { step = Math.max(0, Math.min(path.length - 1, step + d)); follow(); orderPanel(); } };
  const keys = { '+': () => zoom(.5), '=': () => zoom(.5), '-': () => zoom(2), '0': everything, c: jump, d: () => $('dim').click(), ArrowLeft: () => zoomTo(view.from - span / 8, view.to - span / 8), ArrowRight: () => zoomTo(view.from + span / 8, view.to + span / 8), ArrowUp: () => { scroll -= 60; }, ArrowDown: () => { scroll += 60; }, ',': () => next(-1), '.': () => next(1), Escape: () => select(-1) };
  if (e.key === '/') { e.preventDefault(); $('search').focus(); return; }
  if (keys[e.key]) { e.preventDefault(); keys[e.key](); draw(); remember(); }
};

// ---- where one is, as an address that can be passed on: #key=0&op=12&axis=events&step=3&from=…&to=…

function remember() {
  const at = new URLSearchParams({ key: $('key').value, axis: mode, from: Math.round(view.from), to: Math.round(view.to) });
  if (selected >= 0) at.set('op', ops[selected].call);
  if (path.length && step !== path.length - 1) at.set('step', step);
  try { history.replaceState(null, '', '#' + at); } catch { /* some browsers refuse it for files */ }
}

function recall() {
  const at = new URLSearchParams(location.hash.slice(1));
  const index = Math.min(data.keys.length - 1, Math.max(0, +(at.get('key') || 0) || 0));
  $('key').value = index;
  load(index);
  // Bars that would be hairlines in real time are shown in event order, until somebody asks.
  const slim = ops.filter(op => op.role && !isOpenEnded(op) && op.retNs - op.callNs < (view.to - view.from) / 60);
  if (at.has('axis') ? at.get('axis') === 'events' : slim.length > 0 && slim.length * 2 >= ops.filter(op => op.role).length) setMode('events');
  if (!at.has('from') && key.explanation) jump();
  if (at.has('q')) { $('search').value = at.get('q'); search(at.get('q')); }
  if (at.has('op')) { const op = ops.findIndex(op => op.call === +at.get('op')); if (op >= 0) select(op, at.has('from')); }
  if (at.has('from') && at.has('to')) zoomTo(+at.get('from'), +at.get('to'));
  if (at.has('step') && path.length) { step = Math.max(0, Math.min(path.length - 1, +at.get('step') || 0)); orderPanel(); if (!at.has('from')) follow(); }
  draw();
}

$('title').textContent = data.title;
$('verdict').textContent = data.verdict; $('verdict').className = 'verdict ' + data.verdict;
$('reason').textContent = data.reason;
data.keys.forEach((k, i) => { const o = el('option', '', (k.key === 'nil' && data.keys.length === 1 ? 'the history' : 'key ' + k.key) + '  ' + k.verdict + '  ' + k.ops.call.length.toLocaleString('en') + ' ops'); o.value = i; $('key').append(o); });
if (data.left_out) { const o = el('option', '', data.left_out + ' more keys are not in this page'); o.disabled = true; $('key').append(o); }
$('key').onchange = () => { load(+$('key').value); remember(); };
$('culprit').disabled = !data.keys.some(k => k.explanation);
window.onresize = draw;
matchMedia('(prefers-color-scheme: dark)').onchange = () => { colours(); draw(); };
colours();
if (data.keys.length) recall();

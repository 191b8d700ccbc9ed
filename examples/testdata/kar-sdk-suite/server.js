// Uses everything that kar-sdk 1.3.10 offers and compares each result with what
// KAR 1.x gives. POST /run answers [{name, ok, detail}].
const express = require('express')
const assert = require('assert')
const { actor, asyncCall, call, events, invoke, sys, tailCall, tell } = require('kar-sdk')

const noted = {} // what tells, reminders and events have left behind, by name

async function eventually (what, check) {
  const end = Date.now() + 15000
  let last
  while (Date.now() < end) {
    last = await check()
    if (last) return last
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  throw new Error(`waited in vain for ${what}`)
}

class Probe {
  async activate () { this.loaded = (await actor.state.get(this, 'kept')) || 0 }
  async deactivate () { noted[`gone ${this.kar.id}`] = true }

  echo (...args) { return args }
  nothing () {}
  fail () { throw new Error('as told') }
  note (name, value) { noted[name] = value }
  async keep (value) { await actor.state.set(this, 'kept', value); return value }
  loadedValue () { return this.loaded }
  session () { return this.kar.session }

  // Re-entrancy: this -> other -> this.
  throughOther (id) { return actor.call(this, actor.proxy('Probe', id), 'backTo', this.kar.id) }
  backTo (id) { return actor.call(this, actor.proxy('Probe', id), 'echo', 'back') }

  countDown (n, steps = 0) { return n === 0 ? steps : actor.tailCall(this, 'countDown', n - 1, steps + 1) }
  handOver (id) { return actor.tailCall(actor.proxy('Probe', id), 'echo', 'from', this.kar.id) }
  letGo () { return actor.tailCallReleaasingLock(this, 'echo', 'let go') }
  toService () { return tailCall('suite', 'shout', JSON.stringify({ word: 'hey' })) }

  async slow (name, ms) {
    noted[name] = (noted[name] || []).concat('begin')
    await new Promise(resolve => setTimeout(resolve, ms))
    noted[name] = noted[name].concat('end')
  }

  event (e) { noted.events = (noted.events || []).concat(e) }
  tick (...args) { noted.ticks = (noted.ticks || []).concat([args]) }
}

const a = actor.proxy('Probe', 'a')
const b = actor.proxy('Probe', 'b')
const s = actor.proxy('Probe', 'state')
const topic = `suite-${process.pid}`

const checks = {
  'service call': async () => assert.deepStrictEqual(await call('suite', 'shout', { word: 'ho' }), 'HO'),
  'service call, error status': () => assert.rejects(call('suite', 'teapot', {}), /short and stout/),
  'service call, unknown route': () => assert.rejects(call('suite', 'nowhere', {}), /Cannot POST/),
  'service tell': async () => {
    assert.strictEqual(await tell('suite', 'note', { name: 'told', value: 7 }), 'OK')
    await eventually('the tell', () => noted.told === 7)
  },
  'service asyncCall': async () => assert.strictEqual(await (await asyncCall('suite', 'shout', { word: 'later' }))(), 'LATER'),
  'invoke with method and headers': async () => {
    const res = await invoke('suite', 'mirror', { method: 'PUT', body: 'raw', headers: { 'Content-Type': 'text/plain', 'X-Mine': 'yes' } })
    assert.strictEqual(res.status, 203)
    assert.deepStrictEqual(JSON.parse(await res.text()), { method: 'PUT', body: 'raw', mine: 'yes' })
  },

  'actor call': async () => assert.deepStrictEqual(await actor.call(a, 'echo', 1, 'zwei', { drei: [3] }), [1, 'zwei', { drei: [3] }]),
  'actor rootCall': async () => assert.deepStrictEqual(await actor.rootCall(a, 'echo', null), [null]),
  'void method': async () => assert.strictEqual(await actor.call(a, 'nothing'), undefined),
  'getter of a field': async () => assert.strictEqual(await actor.call(a, 'loaded'), 0),
  'unknown method': () => assert.rejects(actor.call(a, 'nosuch'), /no nosuch in actor/),
  // 1.3.10 swallows the exception and Express answers 404 with a page.
  'exception in a method': () => assert.rejects(actor.call(a, 'fail'), /Cannot POST/),
  'actor tell': async () => {
    assert.strictEqual(await actor.tell(a, 'note', 'actor told', 1), 'OK')
    await eventually('the tell', () => noted['actor told'] === 1)
  },
  'actor asyncCall': async () => assert.deepStrictEqual(await (await actor.asyncCall(a, 'echo', 'p'))(), ['p']),
  're-entrancy': async () => assert.deepStrictEqual(await actor.call(a, 'throughOther', 'b'), ['back']),
  'one flow at a time': async () => {
    await Promise.all([1, 2, 3].map(() => actor.rootCall(a, 'slow', 'turns', 30)))
    assert.deepStrictEqual(noted.turns, ['begin', 'end', 'begin', 'end', 'begin', 'end'])
  },
  'tail call to itself': async () => assert.strictEqual(await actor.call(a, 'countDown', 5), 5),
  'tail call to another': async () => assert.deepStrictEqual(await actor.call(a, 'handOver', 'b'), ['from', 'a']),
  'tail call releasing the lock': async () => assert.deepStrictEqual(await actor.call(a, 'letGo'), ['let go']),
  'session in a method': async () => assert.match(await actor.call(a, 'session'), /^[A-Za-z0-9._:-]+$/),

  'state set, get, contains': async () => {
    await actor.state.removeAll(s)
    assert.strictEqual(await actor.state.get(s, 'k'), undefined)
    await actor.state.set(s, 'k', { deep: [1] })
    assert.deepStrictEqual(await actor.state.get(s, 'k'), { deep: [1] })
    await actor.state.set(s, 'k', 'over')
    assert.strictEqual(await actor.state.get(s, 'k'), 'over')
  },
  'state setMultiple, getAll, remove, removeSome': async () => {
    await actor.state.removeAll(s)
    assert.strictEqual(await actor.state.setMultiple(s, { x: 1, y: 2, z_z: 3 }), 3)
    assert.strictEqual(await actor.state.setMultiple(s, { x: 9, w: 4 }), 1)
    assert.deepStrictEqual(await actor.state.getAll(s), { x: 9, y: 2, z_z: 3, w: 4 })
    assert.strictEqual(await actor.state.remove(s, 'x'), 1)
    assert.strictEqual(await actor.state.remove(s, 'x'), 0)
    assert.strictEqual(await actor.state.removeSome(s, ['y', 'nosuch']), 1)
    assert.deepStrictEqual(await actor.state.getAll(s), { z_z: 3, w: 4 })
  },
  'state update': async () => {
    await actor.state.removeAll(s)
    await actor.state.update(s, { updates: { p: 1, q: 2 }, submapupdates: { m: { i: 1, j: 2 } } })
    assert.deepStrictEqual(await actor.state.update(s, { removals: ['p'], submapremovals: { m: ['i'] }, updates: { r: 3 } }), { removed: 2, added: 1 })
    assert.deepStrictEqual(await actor.state.getAll(s), { q: 2, r: 3, m: { j: 2 } })
  },
  submaps: async () => {
    await actor.state.removeAll(s)
    const m = actor.state.submap
    await m.set(s, 'm', 'one', 1)
    assert.strictEqual(await m.get(s, 'm', 'one'), 1)
    assert.strictEqual(await m.get(s, 'm', 'two'), undefined)
    assert.strictEqual(await m.setMultiple(s, 'm', { two: 2, three: 3 }), 2)
    assert.deepStrictEqual(await m.getAll(s, 'm'), { one: 1, two: 2, three: 3 })
    assert.deepStrictEqual((await m.keys(s, 'm')).sort(), ['one', 'three', 'two'])
    assert.strictEqual(await m.size(s, 'm'), 3)
    assert.strictEqual(await m.remove(s, 'm', 'one'), 1)
    assert.strictEqual(await m.removeSome(s, 'm', ['two', 'nosuch']), 1)
    assert.strictEqual(await m.removeAll(s, 'm'), 1)
    assert.strictEqual(await m.size(s, 'm'), 0)
  },
  'state survives deactivation': async () => {
    const k = actor.proxy('Probe', `keeper-${process.pid}`)
    await actor.call(k, 'keep', 41)
    assert.strictEqual(await actor.call(k, 'loadedValue'), 0)
    await actor.state.set(k, 'kept', 42)
    await eventually('the idle collection', () => noted[`gone ${k.kar.id}`])
    assert.strictEqual(await actor.call(k, 'loadedValue'), 42)
  },
  remove: async () => {
    const r = actor.proxy('Probe', 'removed')
    await actor.call(r, 'keep', 5)
    assert.strictEqual(await actor.remove(r), 'OK')
    await eventually('the removal', () => noted['gone removed'])
    assert.strictEqual(await actor.call(r, 'loadedValue'), 0)
    assert.deepStrictEqual(await actor.state.getAll(r), {})
  },

  reminders: async () => {
    const far = new Date(Date.now() + 3600000)
    await actor.reminders.schedule(b, 'tick', { id: 'far', targetTime: far, period: '1h30m' }, 'x', 2)
    const got = await actor.reminders.get(b, 'far')
    assert.deepStrictEqual(got.Actor, { Type: 'Probe', ID: 'b' })
    assert.strictEqual(got.id, 'far')
    assert.strictEqual(got.path, '/tick')
    assert.strictEqual(new Date(got.targetTime).getTime(), far.getTime())
    assert.strictEqual(got.period, 5400e9)
    assert.deepStrictEqual(JSON.parse(got.encodedData), ['x', 2])
    assert.strictEqual((await actor.reminders.get(b)).length, 1)
    assert.strictEqual(await actor.reminders.cancel(b, 'far'), 1)
    assert.strictEqual(await actor.reminders.cancel(b, 'far'), 0)
    assert.ok(!await actor.reminders.get(b, 'far'))
  },
  'reminders fire, once and with a period': async () => {
    delete noted.ticks
    await actor.reminders.schedule(b, 'tick', { id: 'once', targetTime: new Date(Date.now() + 50) }, 'once')
    await eventually('the reminder', () => noted.ticks)
    assert.deepStrictEqual(noted.ticks, [['once']])
    await actor.reminders.schedule(b, 'tick', { id: 'often', targetTime: new Date(), period: '100ms' }, 'often')
    await eventually('three firings', () => noted.ticks.length >= 4)
    assert.strictEqual(await actor.reminders.cancel(b), 1)
    assert.ok(noted.ticks.slice(1).every(t => t[0] === 'often'))
  },

  events: async () => {
    delete noted.events
    await events.createTopic(topic)
    assert.strictEqual(await events.createTopic(topic), 'Already existed')
    await events.subscribe(b, 'event', topic, { id: 'mine' })
    const got = await events.getSubscription(b, 'mine')
    assert.deepStrictEqual(got.actor, { Type: 'Probe', ID: 'b' })
    assert.strictEqual(got.topic, topic)
    for (let n = 1; n <= 20; n++) assert.strictEqual(await events.publish(topic, { n }), 'OK')
    await eventually('twenty events', () => noted.events && noted.events.length >= 20)
    assert.deepStrictEqual(noted.events.map(e => e.n), Array.from({ length: 20 }, (_, i) => i + 1))
    assert.strictEqual(await events.cancelSubscription(b, 'mine'), 1)
    assert.strictEqual(await events.deleteTopic(topic), 'OK')
    await assert.rejects(events.publish(`${topic}-unknown`, {}))
  },

  system: async () => {
    const sidecars = await sys.get('sidecars')
    assert.ok(Object.values(sidecars).some(c => c.actors.includes('Probe') && c.services.includes('suite')))
    await actor.call(a, 'nothing')
    assert.ok((await sys.get('actors')).Probe.includes('a'))
    assert.ok((await sys.get('id')).id.length > 4)
  }
}

const app = express()

app.post('/run', async (req, res) => {
  const results = []
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check()
      results.push({ name, ok: true })
    } catch (err) {
      results.push({ name, ok: false, detail: String(err.stack).slice(0, 2000) })
    }
  }
  res.json(results)
})
app.post('/shout', express.json(), (req, res) => res.json(req.body.word.toUpperCase()))
app.post('/teapot', (req, res) => res.status(418).send('short and stout'))
app.post('/note', express.json(), (req, res) => {
  noted[req.body.name] = req.body.value
  res.sendStatus(200)
})
app.put('/mirror', express.text(), (req, res) => res.status(203).json({ method: req.method, body: req.body, mine: req.get('X-Mine') }))

app.use(sys.actorRuntime({ Probe }))
app.use(sys.errorHandler)
sys.h2c(app).listen(process.env.KAR_APP_PORT, '127.0.0.1')

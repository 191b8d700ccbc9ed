// The dining philosophers as actors. Thinking and waiting are reminders, so a
// philosopher costs nothing meanwhile and goes on after any crash. Every step
// can be run again without harm: it writes where it is, not how far to move.
const express = require('express')
const { actor, sys } = require('kar-sdk')

const soon = ms => new Date(Date.now() + 1 + Math.floor(Math.random() * ms))

class Fork {
  async activate () {
    this.holder = await actor.state.get(this, 'holder')
  }

  async pickUp (who) {
    if (this.holder === undefined) {
      await actor.state.set(this, 'holder', who)
      this.holder = who
    }
    return this.holder === who
  }

  async putDown (who) {
    if (this.holder === who) {
      await actor.state.remove(this, 'holder')
      this.holder = undefined
    }
  }
}

class Philosopher {
  async activate () {
    Object.assign(this, await actor.state.getAll(this))
  }

  async join (table, low, high, target) {
    const seat = { table, low, high, target, eaten: 0 }
    await actor.state.setMultiple(this, seat)
    Object.assign(this, seat)
    await this.later('hungry')
  }

  // One reminder per philosopher: the step that comes next.
  later (step) {
    return actor.reminders.schedule(this, step, { id: 'next', targetTime: soon(20) })
  }

  async hungry () {
    if (!await actor.call(this, actor.proxy('Fork', this.low), 'pickUp', this.kar.id)) return this.later('hungry')
    return actor.tailCall(this, 'reach')
  }

  async reach () {
    if (!await actor.call(this, actor.proxy('Fork', this.high), 'pickUp', this.kar.id)) return this.later('reach')
    return actor.tailCall(this, 'eat', this.eaten + 1)
  }

  async eat (serving) {
    await actor.state.set(this, 'eaten', serving)
    this.eaten = serving
    await actor.call(this, actor.proxy('Fork', this.high), 'putDown', this.kar.id)
    await actor.call(this, actor.proxy('Fork', this.low), 'putDown', this.kar.id)
    if (serving < this.target) return this.later('hungry')
    return actor.tailCall(actor.proxy('Table', this.table), 'leave', this.kar.id, serving)
  }
}

class Table {
  async activate () {
    Object.assign(this, await actor.state.getAll(this))
  }

  async seat (cafe, guests, servings) {
    await actor.state.setMultiple(this, { cafe, guests })
    Object.assign(this, { cafe, guests })
    for (let i = 0; i < guests; i++) {
      // Everybody takes the lower fork first, so that nobody waits in a circle.
      const [low, high] = [i, (i + 1) % guests].sort((a, b) => a - b)
      await actor.call(this, actor.proxy('Philosopher', `${this.kar.id}.${i}`), 'join',
        this.kar.id, `${this.kar.id}.${low}`, `${this.kar.id}.${high}`, servings)
    }
    return this.kar.id
  }

  async leave (who, eaten) {
    await actor.state.submap.set(this, 'left', who, eaten)
    if (await actor.state.submap.size(this, 'left') < this.guests) return
    return actor.tailCall(actor.proxy('Cafe', this.cafe), 'free', this.kar.id)
  }

  // How much each guest has eaten, of those who are done.
  bill () {
    return actor.state.submap.getAll(this, 'left')
  }
}

class Cafe {
  async seatTable (guests = 5, servings = 20) {
    const number = (await actor.state.get(this, 'seated') || 0) + 1
    await actor.state.set(this, 'seated', number)
    const table = `${this.kar.id}-${number}`
    await actor.state.submap.set(this, 'tables', table, 'eating')
    return actor.tailCall(actor.proxy('Table', table), 'seat', this.kar.id, guests, servings)
  }

  async free (table) {
    await actor.state.submap.set(this, 'tables', table, 'done')
    console.log(`table ${table} is free again`)
  }

  tables () {
    return actor.state.submap.getAll(this, 'tables')
  }
}

const app = express()
app.use(sys.actorRuntime({ Cafe, Fork, Philosopher, Table }))
sys.h2c(app).listen(process.env.KAR_APP_PORT, '127.0.0.1')

// A portfolio that follows prices: it subscribes itself to a topic, and every
// event of that topic becomes one call of its method, in order.
const express = require('express')
const { actor, events, sys } = require('kar-sdk')

class Portfolio {
  async activate () {
    const state = await actor.state.getAll(this)
    this.shares = state.shares || {}
    this.prices = state.prices || {}
    this.seen = state.seen || 0
  }

  async follow (topic, shares) {
    await events.createTopic(topic)
    await actor.state.update(this, { submapupdates: { shares } })
    Object.assign(this.shares, shares)
    await events.subscribe(this, 'priced', topic, { id: 'prices' })
  }

  // An event: {"number":1,"share":"ACME","price":12.5}
  async priced ({ number, share, price }) {
    if (number <= this.seen) return // this attempt repeats one that was killed after its write
    await actor.state.update(this, { updates: { seen: number }, submapupdates: { prices: { [share]: price } } })
    this.seen = number
    this.prices[share] = price
  }

  value () {
    let total = 0
    for (const [share, count] of Object.entries(this.shares)) total += count * (this.prices[share] || 0)
    return { total, seen: this.seen }
  }

  async leave () {
    await events.cancelSubscription(this, 'prices')
  }
}

const app = express()
app.use(sys.actorRuntime({ Portfolio }))
sys.h2c(app).listen(process.env.KAR_APP_PORT, '127.0.0.1')

// An account moves money in steps of a tail-call chain:
//
//   from.withdraw -> to.deposit -> from.settle -> to.settle
//
// Each step and the order to make the next one are one record, so a chain never
// stops half way and no step starts again once the next is recorded. A step
// that is killed is made again, so it leaves its mark in the same write as its
// money and does nothing when it finds the mark. The last two steps remove the
// marks, which nobody can need any more by then.
const { actor } = require('kar-sdk')

class Account {
  async activate () {
    const state = await actor.state.getAll(this)
    this.balance = state.balance || 0
    this.marks = state.marks || {}
  }

  async open (amount) {
    await actor.state.set(this, 'balance', amount)
    this.balance = amount
    return amount
  }

  async withdraw (transfer, to, amount) {
    if (!(transfer in this.marks)) {
      if (this.balance < amount) return 'refused'
      await this.change(transfer, -amount)
    }
    return actor.tailCall(actor.proxy('Account', to), 'deposit', transfer, this.kar.id, amount)
  }

  async deposit (transfer, from, amount) {
    if (!(transfer in this.marks)) await this.change(transfer, amount)
    return actor.tailCall(actor.proxy('Account', from), 'settle', transfer, this.kar.id)
  }

  async settle (transfer, next) {
    await actor.state.submap.remove(this, 'marks', transfer)
    delete this.marks[transfer]
    if (next) return actor.tailCall(actor.proxy('Account', next), 'settle', transfer)
    return 'done'
  }

  // Money and mark are one write.
  async change (transfer, amount) {
    const balance = this.balance + amount
    await actor.state.update(this, { updates: { balance }, submapupdates: { marks: { [transfer]: amount } } })
    this.balance = balance
    this.marks[transfer] = amount
  }

  // The balance and how many marks are left.
  report () {
    return { balance: this.balance, marks: Object.keys(this.marks).length }
  }
}

module.exports = { Account }

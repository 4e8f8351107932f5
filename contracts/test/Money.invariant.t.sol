// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICouncil} from "../src/interfaces/ICouncil.sol";
import {ILedgerAnchor} from "../src/interfaces/ILedgerAnchor.sol";
import {IPaymentRouter} from "../src/interfaces/IPaymentRouter.sol";
import {ITreasury} from "../src/interfaces/ITreasury.sol";
import {Money} from "../src/Money.sol";
import {Names} from "../src/Names.sol";
import {Records, Signature} from "../src/Records.sol";
import {City} from "./City.sol";
import {Closed, HostileToken} from "./HostileTokens.sol";
import {Reference} from "./Reference.sol";
import {vm} from "./Vm.sol";

/// @notice Whatever people do in whatever order, with a token that comes to deny whom it likes: money is never made,
/// never lost, and leaves the treasury for orders alone.
contract MoneyInvariantTest is City {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    uint128 internal constant COMMITTED = 1_000_000;

    HostileToken internal hostile;
    address internal payer = vm.addr(1_006);
    Records.Commitment internal commitment;
    Records.Commitment internal commitmentInCoin;
    uint256 internal minted;
    uint256 internal ordered;
    uint256 internal received;
    uint256 internal count;
    uint256 internal refunded;
    uint256 internal stolen;
    uint256 internal paidInCoin;
    uint256 internal receivedInCoin;
    uint256 internal orderedInCoin;
    Closed internal shop;
    // What was done last, for those who try it again.
    bytes internal lastExecution;
    bytes internal lastQuote;
    // Why the last thief was refused: at the door that was meant, or the attempt says nothing.
    bytes4 internal refusal;
    bytes32 internal ruleHash;
    Records.Transfer internal receipt;

    function setUp() public override {
        super.setUp();
        hostile = new HostileToken();
        hostile.approve(address(router), type(uint256).max);
        enactContract("treasury", address(treasury));
        enactAsset("HOST", address(hostile));
        enactAsset("COIN", Money.COIN);
        shop = new Closed();
        bytes memory rule =
            abi.encode(Records.REVENUE_RULE, Records.RevenueRule(START, "sale", Names.RETAINED, 100, START, ACT));
        enact(rule);
        ruleHash = keccak256(rule);
        enactParameter(Names.DIRECT_SETTLEMENT, 1);
        enactAccount("t-host", "HOST", Names.CHAIN, address(treasury));
        enactAccount("builder", "HOST", Names.PAYEE, builder);
        enactAccount("t-coin", "COIN", Names.CHAIN, address(treasury));
        enactAccount("shop", "COIN", Names.PAYEE, address(shop));
        bytes memory record = abi.encode(Records.PROJECT, Records.Project(START, "p", "water", "alatau-gate", 9, ACT));
        enact(record);
        commitment = _committed("a", keccak256(record), "HOST", "builder");
        commitmentInCoin = _committed("a-coin", keccak256(record), "COIN", "shop");
        bytes32 to = bytes32(uint256(uint160(payer)));
        receipt = Records.Transfer(START, ACT, "t-host", "revenue", "HOST", 5_000, "sale", ruleHash, ACT, to);
        add(abi.encode(Records.TRANSFER, receipt));
        publish();
        vm.warp(START + 14 days);
    }

    function _committed(bytes32 name, bytes32 projectHash, bytes32 asset, bytes32 payee)
        private
        returns (Records.Commitment memory)
    {
        bytes memory record = abi.encode(
            Records.ALLOCATION, Records.Allocation(START, name, "b", projectHash, asset, COMMITTED, ACT, ACT)
        );
        enact(record);
        return Records.Commitment(START, name, keccak256(record), payee, COMMITTED, ACT);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        bytes4[] memory selectors = new bytes4[](19);
        selectors[0] = this.pay.selector;
        selectors[1] = this.deposit.selector;
        selectors[2] = this.flush.selector;
        selectors[3] = this.execute.selector;
        selectors[4] = this.pull.selector;
        selectors[5] = this.deny.selector;
        selectors[6] = this.refund.selector;
        selectors[7] = this.quarrel.selector;
        selectors[8] = this.operatorAlone.selector;
        selectors[9] = this.minorityOfTheCouncil.selector;
        selectors[10] = this.authorityAlone.selector;
        selectors[11] = this.gatewayCheats.selector;
        selectors[12] = this.tokenLies.selector;
        selectors[13] = this.payInCoin.selector;
        selectors[14] = this.shopOpens.selector;
        selectors[15] = this.pullCoin.selector;
        selectors[16] = this.payeeCheats.selector;
        selectors[17] = this.merchantCheats.selector;
        selectors[18] = this.executeInCoin.selector;
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(this), selectors);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(this);
    }

    // --- what people do ---

    function pay(uint128 amount, uint16 share) external {
        amount = uint128(within(amount, 1, 10_000));
        _mint(address(this), amount);
        IPaymentRouter.Quote memory quote = IPaymentRouter.Quote(
            bytes32(++count), "sale", merchant, address(hostile), amount, uint16(within(share, 100, 10_000)), FOREVER, uint64(count)
        );
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", council.domainSeparator(), router.quoteHash(quote)));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(GATEWAY, digest);
        uint256 before = hostile.balanceOf(address(treasury));
        router.pay(quote, r, compact(v, s));
        lastQuote = abi.encode(quote, r, compact(v, s));
        received += hostile.balanceOf(address(treasury)) - before;
    }

    function deposit(uint128 amount, uint8 which) external {
        _mint(router.depositAddress(_terms(which)[0]), within(amount, 1, 10_000));
    }

    function flush(uint8 which) external {
        uint256 before = hostile.balanceOf(address(treasury));
        router.flush(_terms(which), address(hostile));
        received += hostile.balanceOf(address(treasury)) - before;
    }

    function execute(uint128 amount) external {
        ITreasury.Execution memory execution = _due(commitment, "t-host", uint128(within(amount, 1, 1_000)));
        treasury.execute(execution);
        lastExecution = abi.encode(execution);
        ordered += execution.order.amount;
    }

    /// @dev The shop is paid for works too, while it is open or not.
    function executeInCoin(uint128 amount) external {
        ITreasury.Execution memory execution = _due(commitmentInCoin, "t-coin", uint128(within(amount, 1, 1_000)));
        treasury.execute(execution);
        orderedInCoin += execution.order.amount;
    }

    /// @dev An order of its own milestone, signed, anchored and waited for.
    function _due(Records.Commitment memory of_, bytes32 from, uint128 amount)
        private
        returns (ITreasury.Execution memory execution)
    {
        bytes32 name = bytes32(bytes.concat("n", bytes2(uint16(0x3030 + (++count % 10) * 256 + (count / 10) % 10))));
        bytes32 commitmentHash = keccak256(abi.encode(Records.COMMITMENT, of_));
        execution.commitment = of_;
        execution.milestone = Records.Milestone(uint64(count), name, commitmentHash, amount, ACT);
        bytes32 hash = keccak256(abi.encode(Records.MILESTONE, execution.milestone));
        execution.certificate = Records.Certificate(START, hash, amount, 1, ACT);
        bytes memory record = abi.encode(Records.CERTIFICATE, execution.certificate);
        execution.certificateApprovals = approve(keys1(CERTIFIER), Records.APPROVE_CERTIFICATE, record, FOREVER);
        execution.order = Records.Order(
            START, name, commitmentHash, of_.allocationHash, keccak256(record), from, amount, of_.payee
        );
        record = abi.encode(Records.ORDER, execution.order);
        execution.orderApprovals = approve(keys1(AUTHORITY), Records.APPROVE_ORDER, record, FOREVER);
        execution.index = add(record);
        publish();
        (execution.headSize, execution.headTime) = (anchor.head().size, anchor.head().time);
        execution.proof = path(execution.index);
        vm.warp(block.timestamp + 1 days);
    }

    /// @dev The shop takes coin only while it is open; what it does not take is kept for it.
    function payInCoin(uint128 amount, uint16 share) external {
        amount = uint128(within(amount, 1, 10_000));
        vm.deal(address(this), amount);
        IPaymentRouter.Quote memory quote = IPaymentRouter.Quote(
            bytes32(++count), "sale", address(shop), Money.COIN, amount, within(share, 100, 10_000), FOREVER, count
        );
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", council.domainSeparator(), router.quoteHash(quote)));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(GATEWAY, digest);
        uint256 before = address(treasury).balance;
        router.payNative{value: amount}(quote, r, compact(v, s));
        paidInCoin += amount;
        receivedInCoin += address(treasury).balance - before;
    }

    function shopOpens(bool open) external {
        shop.set(open);
    }

    function pullCoin(bool fromTreasury) external {
        if (fromTreasury) treasury.pull(address(shop), Money.COIN);
        else router.pull(address(shop), Money.COIN);
    }

    function pull(bool fromTreasury) external {
        if (fromTreasury) treasury.pull(builder, address(hostile));
        else router.pull(merchant, address(hostile));
    }

    function deny(uint8 whom) external {
        hostile.deny(whom % 3 == 0 ? merchant : whom % 3 == 1 ? builder : address(0));
    }

    function refund(uint128 amount) external {
        amount = uint128(within(amount, 1, 3_000));
        ITreasury.Refunding memory asked;
        asked.receipt = receipt;
        asked.receiptIndex = _receiptIndex();
        asked.refund = Records.Refund(
            START, bytes32(++count), keccak256(abi.encode(Records.TRANSFER, receipt)), amount, receipt.refundTo, ACT
        );
        bytes memory record = abi.encode(Records.REFUND, asked.refund);
        asked.authorityApprovals = approve(keys1(AUTHORITY), Records.APPROVE_REFUND, record, FOREVER);
        asked.index = add(record);
        publish();
        (asked.headSize, asked.headTime) = (anchor.head().size, anchor.head().time);
        (asked.proof, asked.receiptProof) = (path(asked.index), path(asked.receiptIndex));
        vm.warp(block.timestamp + 1 days);
        treasury.refund(asked);
        refunded += amount;
    }

    /// @dev The auditor disputes the one commitment there is, and the council settles it, or not.
    function quarrel(uint8 mood) external {
        bytes32 commitmentHash = keccak256(abi.encode(Records.COMMITMENT, commitment));
        if (treasury.disputedAt(commitmentHash) == 0) {
            Records.Dispute memory dispute =
                Records.Dispute(uint64(block.timestamp), commitmentHash, vm.addr(AUDITOR), bytes32(++count));
            bytes memory said = abi.encode(Records.DISPUTE, dispute);
            treasury.dispute(dispute, commitment, approve(keys1(AUDITOR), Records.APPROVE_DISPUTE, said, FOREVER)[0]);
        }
        if (mood % 8 == 0) return;
        Records.Resolution memory resolution =
            Records.Resolution(uint64(block.timestamp), commitmentHash, 0, bytes32(++count));
        bytes memory record = abi.encode(Records.RESOLUTION, resolution);
        uint64 index = add(record);
        publish();
        Signature[] memory approvals = approve(keys3(1, 2, 3), Records.APPROVE_RESOLUTION, record, FOREVER);
        treasury.resolve(resolution, index, anchor.head().size, anchor.head().time, path(index), approvals);
    }

    // --- what thieves try; each success is counted ---

    /// @dev What extends the log truly, without the watcher; or what forgets, past a watcher who did not look.
    function operatorAlone(bytes32 root, bool isTrue_) external {
        uint64 old = anchor.head().size;
        bytes32[] memory kept = leaves;
        // The fuzzer knows the leaves that there are; one in its own place would forget nothing.
        root = keccak256(abi.encode(root));
        if (!isTrue_) leaves[uint256(root) % old] = root;
        leaves.push(root);
        uint64 size = uint64(leaves.length);
        bytes32 head = Reference.root(leaves, 0, size);
        bytes32[] memory proof = Reference.consistency(old, leaves, 0, size, true);
        leaves = kept;
        Signature memory signed = witness(isTrue_ ? OPERATOR : WATCHER, size, head, FOREVER);
        vm.prank(vm.addr(OPERATOR));
        try anchor.append(size, head, proof, FOREVER, signed.r, compact(signed.v, signed.s)) {
            ++stolen;
        } catch (bytes memory why) {
            _refuse(why);
        }
    }

    function minorityOfTheCouncil(uint8 which, address thief) external {
        bytes memory record = which % 2 == 0
            ? abi.encode(Records.ACCOUNT, account(bytes32("thief"), "HOST", Names.PAYEE, thief))
            : abi.encode(Records.SEAT, seat(Names.COUNCIL, 77));
        uint64 index = add(record);
        publish();
        (bytes32 approveTypeHash,) = Records.enactable(bytes32(record));
        uint256[] memory two = new uint256[](2);
        (two[0], two[1]) = (4, 5);
        try this.bringAs(record, index, approve(two, approveTypeHash, record, FOREVER)) {
            ++stolen;
        } catch (bytes memory why) {
            _refuse(why);
        }
        Signature[] memory padded = approve(keys3(4, 5, STRANGER), approveTypeHash, record, FOREVER);
        try this.bringAs(record, index, padded) {
            ++stolen;
        } catch (bytes memory why) {
            _refuse(why);
        }
    }

    function bringAs(bytes calldata record, uint64 index, Signature[] calldata approvals) external {
        bring(record, index, approvals);
    }

    /// @dev An order with the authority's signature and the payee's word for a certificate.
    function authorityAlone(uint128 amount) external {
        amount = uint128(within(amount, 1, 20_000));
        ITreasury.Execution memory execution;
        execution.commitment = commitment;
        bytes32 commitmentHash = keccak256(abi.encode(Records.COMMITMENT, commitment));
        execution.milestone = Records.Milestone(uint64(++count), "m", commitmentHash, amount, ACT);
        bytes32 hash = keccak256(abi.encode(Records.MILESTONE, execution.milestone));
        execution.certificate = Records.Certificate(START, hash, amount, 1, ACT);
        bytes memory record = abi.encode(Records.CERTIFICATE, execution.certificate);
        execution.certificateApprovals = approve(keys1(1_001), Records.APPROVE_CERTIFICATE, record, FOREVER);
        execution.order = Records.Order(
            START, "m", commitmentHash, commitment.allocationHash, keccak256(record), "t-host", amount, "builder"
        );
        record = abi.encode(Records.ORDER, execution.order);
        execution.orderApprovals = approve(keys1(AUTHORITY), Records.APPROVE_ORDER, record, FOREVER);
        execution.index = add(record);
        publish();
        (execution.headSize, execution.headTime) = (anchor.head().size, anchor.head().time);
        execution.proof = path(execution.index);
        vm.warp(block.timestamp + 1 days);
        try treasury.execute(execution) {
            ++stolen;
        } catch (bytes memory why) {
            _refuse(why);
        }
    }

    /// @dev A gateway and a merchant who agree to leave the city out.
    function gatewayCheats(uint128 amount, uint16 share) external {
        amount = uint128(within(amount, 1, 10_000));
        _mint(address(this), amount);
        IPaymentRouter.Quote memory quote = IPaymentRouter.Quote(
            bytes32(++count), "sale", merchant, address(hostile), amount, share % 100, FOREVER, count
        );
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", council.domainSeparator(), router.quoteHash(quote)));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(GATEWAY, digest);
        try router.pay(quote, r, compact(v, s)) {
            ++stolen;
        } catch (bytes memory why) {
            _refuse(why);
        }
    }

    /// @dev The token says yes and moves nothing: nothing may be booked for it.
    function tokenLies(uint128 amount) external {
        amount = uint128(within(amount, 1, 10_000));
        hostile.set(HostileToken.Mode.SaysYesMovesNothing);
        IPaymentRouter.Quote memory quote = IPaymentRouter.Quote(
            bytes32(++count), "sale", merchant, address(hostile), amount, 5_000, FOREVER, count
        );
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", council.domainSeparator(), router.quoteHash(quote)));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(GATEWAY, digest);
        try router.pay(quote, r, compact(v, s)) {
            ++stolen;
        } catch (bytes memory why) {
            _refuse(why);
        }
        hostile.set(HostileToken.Mode.Plain);
    }

    /// @dev What was paid once is brought again: as it was, with more in it, or to somebody else. Or what is due is brought
    /// with another commitment than was signed.
    function payeeCheats(uint8 how, uint128 more, bytes32 elsewhere) external {
        if (lastExecution.length == 0 || elsewhere == commitment.payee) return;
        ITreasury.Execution memory execution = abi.decode(lastExecution, (ITreasury.Execution));
        if (how % 4 == 1) execution.order.amount += uint128(within(more, 1, 1_000));
        if (how % 4 == 2) execution.order.payee = elsewhere;
        if (how % 4 == 3) {
            execution = _due(commitment, "t-host", uint128(within(more, 1, 1_000)));
            execution.commitment.payee = elsewhere;
        }
        try treasury.execute(execution) {
            ++stolen;
        } catch (bytes memory why) {
            _refuse(why);
        }
    }

    /// @dev A quote that was paid is brought again, or a deposit is made by terms that leave the city less.
    function merchantCheats(uint128 amount, uint16 share) external {
        amount = uint128(within(amount, 100, 10_000));
        if (lastQuote.length != 0) {
            (IPaymentRouter.Quote memory quote, bytes32 r, bytes32 vs) =
                abi.decode(lastQuote, (IPaymentRouter.Quote, bytes32, bytes32));
            _mint(address(this), quote.amount);
            try router.pay(quote, r, vs) {
                ++stolen;
            } catch (bytes memory why) {
            _refuse(why);
        }
        }
        IPaymentRouter.Terms[] memory terms = new IPaymentRouter.Terms[](1);
        terms[0] = IPaymentRouter.Terms(bytes32(++count), "sale", merchant, uint16(share % 100));
        address place = router.depositAddress(terms[0]);
        _mint(place, amount);
        uint256 before = hostile.balanceOf(address(treasury));
        router.flush(terms, address(hostile));
        uint256 part = hostile.balanceOf(address(treasury)) - before;
        received += part;
        if (part * 100 < amount) ++stolen;
    }

    function _refuse(bytes memory why) private {
        refusal = bytes4(why);
    }

    // --- that all this happens ---

    /// @dev The invariants hold of handlers that always revert, too; so each is seen to do what its name says.
    function test_each_handler_does_what_it_is_for_and_each_thief_gets_as_far_as_the_door_that_is_meant() external {
        this.pay(9_999, 9_900);
        this.deposit(4_999, 1);
        this.flush(1);
        same(received, 10_000 + 125);
        this.execute(99);
        same(ordered, 100);
        same(hostile.balanceOf(builder), 100);
        this.deny(1);
        this.execute(199);
        same(treasury.credit(builder, address(hostile)), 200);
        this.deny(0);
        this.pull(true);
        same(hostile.balanceOf(builder), 300);
        this.pay(999, 4_900);
        same(router.credit(merchant, address(hostile)), 500);
        this.deny(2);
        this.pull(false);
        same(hostile.balanceOf(merchant), 4_875 + 500);
        this.refund(99);
        same(refunded, 100);
        this.payInCoin(999, 4_900);
        same(router.credit(address(shop), Money.COIN), 500);
        this.executeInCoin(99);
        same(treasury.credit(address(shop), Money.COIN), 100);
        this.shopOpens(true);
        this.pullCoin(false);
        same(address(shop).balance, 500);
        this.pullCoin(true);
        same(address(shop).balance, 600);
        this.executeInCoin(199);
        same(address(shop).balance, 800);
        same(orderedInCoin, 300);
        this.quarrel(0);
        isTrue(treasury.disputedAt(keccak256(abi.encode(Records.COMMITMENT, commitment))) != 0);
        this.quarrel(1);
        same(treasury.disputedAt(keccak256(abi.encode(Records.COMMITMENT, commitment))), 0);

        this.operatorAlone("root", true);
        _refusedWith(ILedgerAnchor.NotSeated.selector);
        this.operatorAlone("root", false);
        _refusedWith(ILedgerAnchor.NotConsistent.selector);
        for (uint8 which = 0; which < 2; ++which) {
            this.minorityOfTheCouncil(which, vm.addr(77));
            _refusedWith(ICouncil.NotSeated.selector);
        }
        this.authorityAlone(1);
        _refusedWith(ICouncil.NotSeated.selector);
        this.gatewayCheats(1, 99);
        _refusedWith(IPaymentRouter.ShareTooSmall.selector);
        this.tokenLies(1);
        _refusedWith(IPaymentRouter.AmountDiffers.selector);
        bytes4[4] memory whys = [
            ITreasury.AlreadyPaid.selector,
            ILedgerAnchor.NotIncluded.selector,
            ILedgerAnchor.NotIncluded.selector,
            ITreasury.CommitmentDiffers.selector
        ];
        for (uint8 how = 0; how < 4; ++how) {
            this.payeeCheats(how, 1, "thief");
            _refusedWith(whys[how]);
        }
        this.merchantCheats(1_000, 0);
        _refusedWith(IPaymentRouter.QuoteUsed.selector);
        same(stolen, 0);
    }

    function _refusedWith(bytes4 why) private {
        same(bytes32(refusal), bytes32(why));
        refusal = 0;
    }

    // --- what holds ---

    function invariant_coin_is_neither_made_nor_lost() external view {
        same(address(treasury).balance + address(shop).balance + address(router).balance, paidInCoin);
        same(address(router).balance, router.credit(address(shop), Money.COIN));
        isTrue(receivedInCoin * 100 >= paidInCoin);
        uint256 owed = treasury.credited(Money.COIN);
        same(owed, treasury.credit(address(shop), Money.COIN));
        same(address(treasury).balance, receivedInCoin + owed - orderedInCoin);
        same(treasury.paid(keccak256(abi.encode(Records.COMMITMENT, commitmentInCoin))), orderedInCoin);
    }

    function invariant_no_thief_succeeds() external view {
        same(stolen, 0);
    }

    function invariant_refunds_stay_inside_their_receipt() external view {
        same(treasury.refunded(keccak256(abi.encode(Records.TRANSFER, receipt))), refunded);
        isTrue(refunded <= receipt.amount);
    }

    function invariant_the_anchored_ledger_never_forgets() external view {
        isTrue(anchor.head().size <= leaves.length);
        same(anchor.head().root, Reference.root(leaves, 0, anchor.head().size));
    }

    function invariant_money_is_neither_made_nor_lost() external view {
        uint256 sum = hostile.balanceOf(address(this)) + hostile.balanceOf(merchant) + hostile.balanceOf(builder)
            + hostile.balanceOf(address(treasury)) + hostile.balanceOf(address(router)) + hostile.balanceOf(payer);
        for (uint8 i = 0; i < 3; ++i) {
            sum += hostile.balanceOf(router.depositAddress(_terms(i)[0]));
        }
        same(sum, minted);
    }

    function invariant_the_treasury_pays_orders_and_nothing_else() external view {
        uint256 owed = treasury.credited(address(hostile));
        same(owed, treasury.credit(builder, address(hostile)));
        same(hostile.balanceOf(payer), refunded);
        same(hostile.balanceOf(builder) + owed, ordered);
        same(hostile.balanceOf(address(treasury)), received + owed - ordered - refunded);
        same(treasury.paid(keccak256(abi.encode(Records.COMMITMENT, commitment))), ordered);
    }

    function invariant_the_router_keeps_only_what_merchants_may_pull() external view {
        same(hostile.balanceOf(address(router)), router.credit(merchant, address(hostile)));
    }

    /// @dev The receipt is the last record of the set-up.
    function _receiptIndex() private view returns (uint64 index) {
        bytes32 leaf = Reference.leaf(abi.encode(Records.TRANSFER, receipt));
        while (leaves[index] != leaf) ++index;
    }

    function _mint(address to, uint256 amount) private {
        hostile.mint(to, amount);
        minted += amount;
    }

    function _terms(uint8 which) private view returns (IPaymentRouter.Terms[] memory terms) {
        terms = new IPaymentRouter.Terms[](1);
        terms[0] = IPaymentRouter.Terms(bytes32(uint256(which % 3)), "sale", merchant, 250);
    }
}
